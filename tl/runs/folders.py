"""Run folders ``<log_dir>/<name>/version_N``, and what their files tell of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_only

from tl.checkpoints.errors import CheckpointError
from tl.checkpoints.files import glance_at
from tl.modules.resuming import fit_progress, is_over, stopped_within
from tl.reading import bound_aliases, read_text, read_yaml


def numbered_versions(folder: Path) -> list[int]:
    """List the N of all ``version_N`` in a folder."""
    names = (path.name.removeprefix("version_") for path in folder.glob("version_*"))
    return [int(name) for name in names if name.isascii() and name.isdecimal()]


def is_first_process() -> bool:
    """Tell if this process is the only one or the first of several, as far as is known yet."""
    return getattr(rank_zero_only, "rank", None) in (None, 0)


def versions_folder(log_dir: str, name: str) -> Path:
    """Return the folder of a run's versions.

    Raises:
        ValueError: If the name leads out of `log_dir`, or is none.
    """
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"`name` must be that of a folder in `log_dir`, got {name!r}.")
    return log_dir / path


def new_run_folder(parent: Path) -> Path:
    """Make ``parent/version_N`` with the next free N; only the first process makes it.

    Raises:
        ValueError: If the parent cannot be a folder, as a link to nowhere.
    """
    if is_first_process():
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ValueError(
                f"Runs cannot be kept in {parent}: it, or a folder above it, is a file or a link "
                "to nowhere. Mount what it leads to, or choose another --log_dir."
            ) from None
    number = max(numbered_versions(parent), default=-1) + 1
    while True:
        folder = parent / f"version_{number}"
        if not is_first_process():
            return folder
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def latest_checkpoint(folder: Path) -> Path:
    """Find the best checkpoint of the newest run below a folder, or else its last one.

    Raises:
        ValueError: If there is none, or the best one is gone.
    """
    for version in sorted(numbered_versions(folder), reverse=True):
        if found := best_checkpoint(folder / f"version_{version}"):
            return found
    raise ValueError(
        f"No checkpoint to evaluate: there is no {folder}/version_*/checkpoints/*.ckpt. Give one "
        "with --ckpt_path, or run fit first."
    )


def best_checkpoint(run: Path) -> Path | None:
    """Return the checkpoint that a run itself names as its best, or else its last one.

    ``results.json`` names it, relative to the run's folder: the best one of a resumed run may lie
    in the folder of an earlier version. Where a run was killed and left no results, its newest
    checkpoint tells. No file is chosen by its name.

    Args:
        run: A run's folder.

    Returns:
        The file; ``None`` where the folder holds no checkpoint.

    Raises:
        ValueError: If the best one is gone.
    """
    results = results_in(run)
    if isinstance(best := results.get("best"), Mapping) and best.get("checkpoint"):
        path = Path(os.path.normpath(run / str(best["checkpoint"])))
        if not path.exists():
            raise ValueError(
                f"{run}/results.json names {best['checkpoint']} as the best checkpoint, and it is "
                "not there; name another one by --ckpt_path."
            )
        return path
    found = [(_progress(path), path) for path in sorted((run / "checkpoints").glob("[!.]*.ckpt"))]
    if not found:
        return None
    (_, content), newest = max(found, key=lambda each: (each[0][0], each[1].stat().st_mtime))
    return _named_best(content, newest) or newest


def results_in(run: Path) -> dict[str, Any]:
    """Return what ``results.json`` in a run's folder holds; empty where there is none."""
    try:
        content = json.loads(read_text(run / "results.json"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _progress(path: Path) -> tuple[int, Mapping[str, Any]]:
    try:
        content = glance_at(path)
    except CheckpointError:
        return -1, {}  # whoever reads it says why
    step = content.get("global_step")
    return (step if isinstance(step, int) else -1), content


def _named_best(content: Mapping[str, Any], newest: Path) -> Path | None:
    """Return the best checkpoint by what the newest one of a run keeps of its callbacks."""
    callbacks = content.get("callbacks")
    for state in callbacks.values() if isinstance(callbacks, Mapping) else ():
        if isinstance(state, Mapping) and state.get("monitor") and state.get("best_model_path"):
            path = Path(str(state["best_model_path"]))
            # the run's folder may have been moved since
            return next((p for p in (path, newest.parent / path.name) if p.exists()), None)
    return None


def run_folder_of(checkpoint: Path) -> Path | None:
    """Return the folder of the run that a checkpoint lies in; ``None`` if it is in no run's."""
    run = checkpoint.absolute().parent.parent
    is_run = checkpoint.parent.name == "checkpoints" and (run / "config.yaml").is_file()
    return run if is_run else None


def configuration_of(checkpoint: Path) -> Path:
    """Find the ``config.yaml`` of the run that a checkpoint was written by.

    Raises:
        ValueError: If it is not beside the checkpoint's folder.
    """
    path = checkpoint.parent.parent / "config.yaml"
    if not path.exists():
        raise ValueError(
            f"{checkpoint}: there is no configuration of its run at {path}, which says what the "
            "data are. Name it by --config."
        )
    return path


def link_data_to_model(
    parser: LightningArgumentParser,
    prepare: Callable[[object], object] = id,
    given: Callable[[str], object] = lambda _: None,
) -> None:
    """Let the data tell the model its tasks; the argument that a model lacks is ignored.

    Args:
        parser: Parser of a command.
        prepare: Called with the data module before it is asked.
        given: Tells what the user gives for an argument, for data modules that do not tell.
    """

    def ask(name: str, data: object) -> object:
        prepare(data)
        return getattr(data, name) if hasattr(data, name) else given(name)

    for name in ("tasks", "task"):
        parser.link_arguments(
            "data", f"model.init_args.{name}", partial(ask, name), apply_on="instantiate"
        )


def build(configurations: Sequence[Path]) -> tuple[LightningModule, LightningDataModule]:
    """Build the module and the data module of a run.

    Args:
        configurations: Its ``config.yaml``, or the files that it was started with; a later one
            adds to those before it.

    Raises:
        ValueError: If a file cannot be read or they do not describe a run.
    """
    bound_aliases()
    # the other sections are those of training
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    link_data_to_model(parser)
    merged: Any = None
    for path in configurations:
        content = read_yaml(path)
        if not isinstance(content, dict) or not {"model", "data"} & content.keys():
            raise ValueError(f"{path}: is no configuration of a run; it needs `model` and `data`.")
        sections = {key: content[key] for key in ("model", "data") if key in content}
        merged = parser.parse_object(sections, merged)
    built = parser.instantiate_classes(merged)
    return built.model, built.data


def completed_epochs(checkpoint: Mapping[str, Any]) -> int | None:
    """Count the epochs that a run had trained when it was saved; ``None`` if it does not say."""
    loop = fit_progress(checkpoint)
    progress = loop.get("epoch_progress", {}).get("current", {})
    if is_over(loop):
        # saved after validation, when all is trained but the epoch is not yet counted
        return cast("int | None", progress.get("ready"))
    if stopped_within(loop):
        return int(progress["processed"]) - 1
    return cast("int | None", progress.get("completed"))


def between_batches(checkpoint: Mapping[str, Any]) -> bool:
    """Say whether a run was saved between the batches whose gradients make up one step."""
    configuration = checkpoint.get("tl", {}).get("configuration") or {}
    accumulate = configuration.get("trainer", {}).get("accumulate_grad_batches") or 1
    batches = fit_progress(checkpoint).get("epoch_loop.batch_progress", {})
    done = batches.get("current", {}).get("processed", 0)
    return bool(done % accumulate) and not batches.get("is_last_batch")
