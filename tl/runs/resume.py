"""Resuming a run: which checkpoint, and whether it belongs to the same run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from tl.checkpoints.atomic_io import remove_leftovers
from tl.checkpoints.errors import CheckpointError
from tl.checkpoints.files import glance_at, local_file, read_checkpoint
from tl.runs.folders import between_batches, completed_epochs, is_first_process
from tl.runs.same_run import (
    configuration_in,
    differences,
    meaning,
    said,
    say_other_length,
    say_other_machine,
    say_other_settings,
)

# Set by the process that chose, for its child processes.
_CHOSEN = "TL_RESUMED_FROM"


class RunCompleteError(Exception):
    """Nothing to resume: the run is complete."""


@dataclass(frozen=True)
class Resumed:
    """A checkpoint to resume from.

    Attributes:
        path: The file.
        content: Its content, verified.
    """

    path: Path
    content: dict[str, Any]

    def without_tensors(self) -> Resumed:
        """Keep what is needed later, and free the rest."""
        return Resumed(self.path, {"global_step": self.content.get("global_step")})


@dataclass(frozen=True)
class _Candidate:
    """A checkpoint as it describes itself; not verified."""

    path: Path
    step: int
    epochs: int
    written: float
    configuration: dict[str, Any]
    between: bool

    @property
    def age(self) -> tuple[int, int, float]:
        """Sort key: the newest is the greatest; at equal steps, the file written later."""
        return self.step, self.epochs, self.written


def newest(
    folder: Path,
    here: Mapping[str, Any],
    *,
    others: Sequence[Path] = (),
    ckpt_path: str | None = None,
) -> Resumed | None:
    """Find the checkpoint that ``--resume auto`` resumes from, and log it.

    Args:
        folder: Folder of the run's versions.
        here: The current configuration, in plain types.
        others: More folders that may hold its checkpoints.
        ckpt_path: The value of ``--ckpt_path``, which must be unset.

    Returns:
        The checkpoint, or ``None`` if there is none.

    Raises:
        RunCompleteError: If the run is complete.
        ValueError: As :func:`choose_checkpoint`, and if `ckpt_path` is given too.
    """
    if ckpt_path is not None:
        raise ValueError(
            f"--resume auto looks for the checkpoint itself, but --ckpt_path names one "
            f"({ckpt_path}); leave one of them out."
        )
    found = choose_checkpoint(folder, here, others)
    if found is None:
        return None
    if ended := trained(found.content, here["trainer"]):
        raise RunCompleteError(f"nothing is left to train: {found.path} {ended}")
    say_going_on(found, here)
    return found


def named(ckpt_path: str, here: Mapping[str, Any], *, trains: bool) -> Resumed:
    """Read the checkpoint that ``--ckpt_path`` names.

    To resume training from it, settings may differ from those of its run; the differences are
    logged.

    Args:
        ckpt_path: A file, or its address.
        here: The current configuration, in plain types.
        trains: Whether training is to be resumed.

    Raises:
        CheckpointError: If it cannot be read.
        ValueError: If it is not from a run, or nothing is left to train.
    """
    path = local_file(ckpt_path)
    content = read_checkpoint(path)
    if "state_dict" not in content or "epoch" not in content:
        raise ValueError(
            f"{ckpt_path} holds weights, not a run to resume; to start a new run from its "
            "weights, use "
            "--model.init_args.init_from."
        )
    if trains and "optimizer_states" not in content:
        raise ValueError(
            f"{ckpt_path} holds no training state (an average of networks does not); to train "
            "from its weights, use --model.init_args.init_from."
        )
    if trains and (ended := trained(content, here["trainer"])):
        raise ValueError(f"Nothing is left to train: {ckpt_path} {ended}")
    resumed = Resumed(path, content)
    if trains:
        say_other_settings(path, content, here)
        _say_between(resumed)
    return resumed


def choose_checkpoint(
    folder: Path, configuration: Mapping[str, Any], others: Sequence[Path] = ()
) -> Resumed | None:
    """Find the newest checkpoint of a run that passes verification.

    Checkpoints of all its versions are compared by the step in the file. They must come from the
    same run: images, tasks, network, optimizer, seed, batches and length of an epoch must be the
    same as now. Length of training, folders, callbacks, logging, workers, device and precision may
    have changed.

    Each skipped checkpoint is logged with the reason: one that fails verification, or one saved
    between the micro-batches of a step, whose gradients no file holds. It is also logged if there
    is none.

    Args:
        folder: Folder of the run's versions.
        configuration: The current configuration, in plain types.
        others: More folders that may hold its checkpoints.

    Returns:
        The checkpoint, or ``None`` if there is none.

    Raises:
        CheckpointError: If there are checkpoints and none passes verification.
        ValueError: If there are checkpoints and all come from runs with other settings.
    """
    if not is_first_process() and (chosen := os.environ.get(_CHOSEN)) is not None:
        # all processes must use the first one's choice, even if a new file has appeared
        return Resumed(Path(chosen), read_checkpoint(chosen)) if chosen else None
    found = _choose(folder, configuration, others)
    os.environ[_CHOSEN] = str(found.path) if found else ""
    return found


def forget_choice() -> None:
    """Let processes started from now on choose for themselves."""
    os.environ.pop(_CHOSEN, None)


def _choose(
    folder: Path, configuration: Mapping[str, Any], others: Sequence[Path]
) -> Resumed | None:
    folders = [*sorted(folder.glob("version_*/checkpoints")), *others]
    paths = [path for each in folders for path in sorted(each.glob("[!.]*.ckpt"))]
    for each in folders:
        if is_first_process():
            remove_leftovers(each)
    if not paths:
        rank_zero_info(f"tl: starting from scratch: no checkpoint below {folder}.")
        return None
    candidates: list[_Candidate] = []
    for path in paths:
        try:
            candidates.append(_look_into(path))
        except CheckpointError as error:
            rank_zero_info(f"tl: skipped: {error}")
    candidates.sort(key=lambda candidate: candidate.age, reverse=True)
    between = [candidate for candidate in candidates if candidate.between]
    for candidate in between:
        rank_zero_info(
            f"tl: skipped: {candidate.path}: was saved between the batches of one step, whose "
            "gradients it lacks. To use it anyway, name it with --ckpt_path."
        )
    whole = [candidate for candidate in candidates if not candidate.between]
    if (found := _newest_of_the_same_run(whole, configuration)) is not None:
        return found
    if len(between) == len(paths):
        rank_zero_info("tl: starting from scratch, which gives the same result as the stopped run.")
        return None
    raise CheckpointError(
        f"{folder}: cannot resume from any of its {len(paths)} checkpoints. Restore a good copy, "
        "or start a new run under another --name."
    )


def _newest_of_the_same_run(
    candidates: Sequence[_Candidate], configuration: Mapping[str, Any]
) -> Resumed | None:
    """Return the first valid one with the current settings; ``None`` if none is valid.

    Raises:
        ValueError: If the valid ones have other settings; names those of the first.
    """
    other: tuple[Path, str] | None = None
    for candidate in candidates:
        change = meaning(differences(candidate.configuration, configuration))
        if change and other is not None:
            continue
        try:  # a damaged file may look like one with other settings
            content = read_checkpoint(candidate.path)
        except CheckpointError as error:
            rank_zero_info(f"tl: skipped: {error}")
            continue
        if not change:
            return Resumed(candidate.path, content)
        other = candidate.path, said(change)
    if other is not None:
        raise ValueError(
            f"{other[0]} comes from a run with other settings: {other[1]}. Change them back, or "
            "give this run another --name; to resume anyway, name the checkpoint with --ckpt_path."
        )
    return None


def _look_into(path: Path) -> _Candidate:
    """Read a checkpoint's description of itself, without its tensors.

    Raises:
        CheckpointError: If it cannot be read or cannot be resumed from.
    """
    content = glance_at(path)
    if "optimizer_states" not in content:
        raise CheckpointError(f"{path}: holds no training state.")
    try:
        step, configuration = content.get("global_step"), configuration_in(content, path)
        epochs, between = completed_epochs(content) or 0, between_batches(content)
    except (AttributeError, TypeError, ValueError):
        raise CheckpointError(
            f"{path}: is malformed: its progress is not in Lightning's format."
        ) from None
    if not isinstance(step, int) or configuration is None:
        raise CheckpointError(f"{path}: does not record the configuration of its run.")
    written = path.stat().st_mtime if path.exists() else 0.0
    return _Candidate(path, step, epochs, written, configuration, between)


def trained(content: Mapping[str, Any], limits: Mapping[str, Any]) -> str | None:
    """Return how a run ended if the checkpoint is from its end, otherwise ``None``.

    Args:
        content: Content of the checkpoint.
        limits: The Trainer's arguments: ``max_epochs``,
            ``max_steps``, ``min_epochs`` and ``callbacks``.
    """
    epochs, step = completed_epochs(content), content.get("global_step")
    most_epochs, most_steps = limits.get("max_epochs"), limits.get("max_steps")
    # averaging weights takes one more epoch, for the average's running statistics
    averages = "StochasticWeightAveraging" in str(limits.get("callbacks"))
    more = averages and any(key.endswith("running_mean") for key in content["state_dict"])
    if epochs is not None and most_epochs not in (None, -1) and epochs >= most_epochs + more:
        return (
            f"has completed {epochs} of {most_epochs} epochs. Raise --trainer.max_epochs to "
            "continue."
        )
    if isinstance(step, int) and most_steps not in (None, -1) and step >= most_steps:
        return f"has completed {step} of {most_steps} steps. Raise --trainer.max_steps to continue."
    if "EarlyStopping" not in str(limits.get("callbacks")):
        return None
    for name, state in content.get("callbacks", {}).items():
        stopped = state.get("stopped_epoch", 0) if str(name).startswith("EarlyStopping") else 0
        # a stop before `min_epochs` was ignored
        enough = (epochs or 0) >= (limits.get("min_epochs") or 0)
        if enough and stopped and stopped == content.get("epoch"):
            return f"was ended by early stopping after {epochs} epochs. Leave it out to continue."
    return None


def say_going_on(resumed: Resumed, here: Mapping[str, Any]) -> None:
    """Log which checkpoint a run resumes from, and whether machine or length differ.

    Args:
        resumed: The checkpoint.
        here: The current configuration.
    """
    rank_zero_info(
        f"tl: resuming from {resumed.path}, at step {resumed.content.get('global_step')} in epoch "
        f"{completed_epochs(resumed.content)} (counted from 0)."
    )
    _say_between(resumed)
    there = configuration_in(resumed.content, resumed.path) or {}
    say_other_machine(there, here)
    say_other_length(there, here)


def _say_between(resumed: Resumed) -> None:
    if between_batches(resumed.content):
        rank_zero_info(
            f"tl: {resumed.path} was saved by a validation between the batches of one step. The "
            "gradients they had accumulated are lost, so this step has fewer batches."
        )


def trained_nothing(step: int, folder: Path | None, resumed: Resumed | None) -> bool:
    """Return whether callbacks ended a resumed run before its first step; remove its folder then.

    Args:
        step: The step at which it ended.
        folder: Its run folder.
        resumed: The checkpoint that it resumed from.
    """
    if folder is None or resumed is None or step != resumed.content.get("global_step"):
        return False
    if any(folder.glob("checkpoints/*")):
        return False  # only a validation was left
    if is_first_process():
        print(f"tl: the run was already complete at step {step}.")  # noqa: T201
        shutil.rmtree(folder, ignore_errors=True)
    return True
