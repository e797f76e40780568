"""Choose the checkpoint that a run resumes from: the newest of the same run that verifies."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from tl.checkpoints.errors import CheckpointError
from tl.checkpoints.files import glance_at, read_checkpoint
from tl.checkpoints.whole_files import remove_leftovers
from tl.counting import counted
from tl.runs.folders import between_batches, completed_epochs, is_first_process
from tl.runs.same_run import configuration_in, meaning, said

# Set by the process that chose, for its child processes.
_CHOSEN = "TL_RESUMED_FROM"


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
        f"{folder}: cannot resume from its {counted(len(paths), 'checkpoint')}. Restore a good "
        "copy, "
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
        change = meaning(candidate.configuration, configuration)
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
