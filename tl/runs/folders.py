"""Run folders ``<log_dir>/<name>/version_N``, and what their files say about a run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_only

from tl.checkpoints.errors import CheckpointError
from tl.checkpoints.files import glance_at
from tl.modules.resuming import fit_progress, is_over, stopped_within
from tl.reading import bound_aliases, read_yaml, versions_in
from tl.report.results import read_results


def is_first_process() -> bool:
    """Return whether this process is the first or the only one, as far as is known yet."""
    return getattr(rank_zero_only, "rank", None) in (None, 0)


def versions_folder(log_dir: str, name: str) -> Path:
    """Return the folder of a run's versions.

    Raises:
        ValueError: If the name leads out of `log_dir` or is empty.
    """
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"`name` must name a folder in `log_dir`, got {name!r}.")
    return log_dir / path


def requeue_folder(versions: Path, configuration: Mapping[str, Any]) -> Path | None:
    """Return the folder of the checkpoint of a SLURM job that Lightning requeues.

    It belongs to one run of one job: any run without a checkpoint to load starts from the newest of
    these in the Trainer's `default_root_dir`, whichever run saved it.

    Args:
        versions: Folder of the run's versions.
        configuration: The run's, in plain types; a job may run several.

    Returns:
        The folder, which may not exist yet; ``None`` outside SLURM.
    """
    job = os.environ.get("SLURM_JOB_ID")
    text = json.dumps(configuration, sort_keys=True, default=str)
    run = hashlib.sha256(text.encode()).hexdigest()[:8]
    return versions / f"job_{job}_{run}" if job else None


def new_run_folder(parent: Path) -> Path:
    """Create ``parent/version_N`` with the next free N; only the first process does.

    Raises:
        ValueError: If the parent cannot be a folder, such as a broken link.
    """
    if is_first_process():
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ValueError(
                f"Cannot store runs in {parent}: it or a parent folder is a file or a broken "
                "link. Mount the target, or choose another --log_dir."
            ) from None
    last = [int(path.name.removeprefix("version_")) for path in versions_in(parent)[-1:]]
    number = last[0] + 1 if last else 0
    while True:
        folder = parent / f"version_{number}"
        if not is_first_process():
            return folder
        try:
            folder.mkdir(parents=True)  # a refused run may have just removed its empty parent
        except FileExistsError:
            number += 1
        else:
            return folder


def latest_checkpoint(folder: Path) -> Path:
    """Find the best checkpoint of the newest run in a folder, otherwise its last one.

    Raises:
        ValueError: If there is none, or the best one is gone.
    """
    for version in reversed(versions_in(folder)):
        if found := best_checkpoint(version):
            return found
    raise ValueError(
        f"No checkpoint to evaluate: there is no {folder}/version_*/checkpoints/*.ckpt. Give one "
        "with --ckpt_path, or run fit first."
    )


def best_checkpoint(run: Path) -> Path | None:
    """Return the checkpoint that a run records as its best, otherwise its last one.

    ``results.json`` names it, relative to the run's folder: the best one of a resumed run may lie
    in the folder of an earlier version. If a run was killed and left no results, its newest
    checkpoint is read instead. File names are never guessed.

    Returns:
        The file; ``None`` if the folder holds no checkpoint.

    Raises:
        ValueError: If the best one is gone, or the results are damaged.
    """
    results = results_in(run)
    if isinstance(best := results.get("best"), Mapping) and best.get("checkpoint"):
        path = Path(os.path.normpath(run / str(best["checkpoint"])))
        if not path.exists():
            raise ValueError(
                f"{run}/results.json names {best['checkpoint']} as the best checkpoint, but it is "
                "gone; name the checkpoint to use in place of the run."
            )
        return path
    found = [(_progress(path), path) for path in sorted((run / "checkpoints").glob("[!.]*.ckpt"))]
    if not found:
        return None
    (_, content), newest = max(found, key=lambda each: (each[0][0], each[1].stat().st_mtime))
    return _named_best(content, newest) or newest


def results_in(run: Path) -> dict[str, Any]:
    """Return the content of ``results.json`` in a run's folder; empty if there is none.

    Raises:
        ValueError: If it is damaged.
    """
    return read_results(run / "results.json")


def _progress(path: Path) -> tuple[int, Mapping[str, Any]]:
    try:
        content = glance_at(path)
    except CheckpointError:
        return -1, {}  # the reader of the file reports why
    step = content.get("global_step")
    return (step if isinstance(step, int) else -1), content


def _named_best(content: Mapping[str, Any], newest: Path) -> Path | None:
    """Return the best checkpoint, from the callback states in the run's newest checkpoint."""
    callbacks = content.get("callbacks")
    for state in callbacks.values() if isinstance(callbacks, Mapping) else ():
        if isinstance(state, Mapping) and state.get("monitor") and state.get("best_model_path"):
            path = Path(str(state["best_model_path"]))
            # the run's folder may have been moved
            return next((p for p in (path, newest.parent / path.name) if p.exists()), None)
    return None


def run_folder_of(checkpoint: Path) -> Path | None:
    """Return the run folder that a checkpoint lies in; ``None`` if there is none."""
    run = checkpoint.absolute().parent.parent
    is_run = checkpoint.parent.name == "checkpoints" and (run / "config.yaml").is_file()
    return run if is_run else None


def run_of_checkpoint(checkpoint: Path) -> Path | None:
    """Return the run that a checkpoint belongs to; ``None`` if there is none.

    That is the folder that it lies in, unless a later version, which resumed the run, names it as
    its best one.
    """
    run = run_folder_of(checkpoint)
    if run is None:
        return None
    file, versions = os.path.normpath(checkpoint.absolute()), versions_in(run.parent)
    after = versions.index(run) + 1 if run in versions else len(versions)
    for version in reversed(versions[after:]):
        best = results_in(version).get("best")
        named = str(best.get("checkpoint") or "") if isinstance(best, Mapping) else ""
        same = named and os.path.normpath((version / named).absolute()) == file
        if same and (version / "config.yaml").is_file():
            return version
    return run


def configuration_of(checkpoint: Path) -> Path:
    """Find the ``config.yaml`` of the run that wrote a checkpoint.

    Raises:
        ValueError: If it is not beside the checkpoint's folder.
    """
    path = checkpoint.parent.parent / "config.yaml"
    if not path.exists():
        raise ValueError(
            f"{checkpoint}: its run's configuration, which describes the data, is not at {path}. "
            "Name it with --config."
        )
    return path


def link_data_to_model(
    parser: LightningArgumentParser,
    prepare: Callable[[object], object] = id,
    given: Callable[[str], object] = lambda _: None,
) -> None:
    """Link the model's tasks to the data; an argument that the model lacks is ignored.

    Args:
        parser: Parser of a command.
        prepare: Called with the data module before its tasks are read.
        given: Returns the user's value of an argument, for data modules without tasks.
    """

    def ask(name: str, data: object) -> object:
        prepare(data)
        # asked of the class: an AttributeError in a user's property is not a missing property
        known = hasattr(type(data), name) or name in vars(data)
        return getattr(data, name) if known else given(name)

    for name in ("tasks", "task"):
        parser.link_arguments(
            "data", f"model.init_args.{name}", partial(ask, name), apply_on="instantiate"
        )


def build(configurations: Sequence[Path]) -> tuple[LightningModule, LightningDataModule]:
    """Build the module and the data module of a run.

    Args:
        configurations: Its ``config.yaml``, or the files that it was started with; later files
            override earlier ones.

    Raises:
        ValueError: If a file cannot be read, or the files do not describe a run.
    """
    # the other sections concern training
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    link_data_to_model(parser)
    contents = {path: read_yaml(path) for path in configurations}
    for path, content in contents.items():
        if not isinstance(content, dict) or not {"model", "data"} & content.keys():
            raise ValueError(
                f"{path} is not the configuration of a run; it needs `model` and `data`."
            )
    built = _instantiated(parser, contents.values(), ("model", "data"))
    return built.model, built.data


def build_data(configurations: Sequence[Path]) -> LightningDataModule:
    """Build the data module that configurations describe; other sections are not read.

    Args:
        configurations: The files; later ones override earlier ones.

    Raises:
        ValueError: If a file cannot be read, or none has a section `data`.
    """
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    try:
        contents = [read_yaml(path) for path in configurations]
    except FileNotFoundError as error:
        raise ValueError(f"There is no configuration {error.filename}.") from None
    contents = [each for each in contents if isinstance(each, dict) and "data" in each]
    if not contents:
        named = ", ".join(map(str, configurations))
        raise ValueError(f"{named} has no section `data`; it must describe the target's data.")
    data: LightningDataModule = _instantiated(parser, contents, ("data",)).data
    return data


def _instantiated(
    parser: LightningArgumentParser, contents: Iterable[Mapping[str, Any]], sections: Sequence[str]
) -> Any:  # noqa: ANN401 - jsonargparse's namespace
    """Build sections of configurations; later ones override earlier ones."""
    bound_aliases()
    merged: Any = None
    for content in contents:
        merged = parser.parse_object({k: content[k] for k in sections if k in content}, merged)
    return parser.instantiate_classes(merged)


def completed_epochs(checkpoint: Mapping[str, Any]) -> int | None:
    """Return the epochs completed when a checkpoint was saved; ``None`` if it does not say."""
    loop = fit_progress(checkpoint)
    progress = loop.get("epoch_progress", {}).get("current", {})
    if is_over(loop):
        # saved after validation: trained, but the epoch is not counted yet
        return cast("int | None", progress.get("ready"))
    if stopped_within(loop):
        return int(progress["processed"]) - 1
    return cast("int | None", progress.get("completed"))


def between_batches(checkpoint: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint was saved between the micro-batches of one step."""
    configuration = checkpoint.get("tl", {}).get("configuration") or {}
    accumulate = configuration.get("trainer", {}).get("accumulate_grad_batches") or 1
    batches = fit_progress(checkpoint).get("epoch_loop.batch_progress", {})
    done = batches.get("current", {}).get("processed", 0)
    return bool(done % accumulate) and not batches.get("is_last_batch")
