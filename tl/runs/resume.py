"""Going on with a run: which checkpoint, and whether it is of the same run."""

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

# Set by the process that has chosen, for those that it starts.
_CHOSEN = "TL_RESUMED_FROM"


class RunCompleteError(Exception):
    """There is nothing to go on with: the run has trained all that it was asked to."""


@dataclass(frozen=True)
class Resumed:
    """A checkpoint to go on from.

    Attributes:
        path: The file.
        content: What is in it, verified.
    """

    path: Path
    content: dict[str, Any]

    def without_tensors(self) -> Resumed:
        """Keep what is asked for later, and let go of the rest."""
        return Resumed(self.path, {"global_step": self.content.get("global_step")})


@dataclass(frozen=True)
class _Candidate:
    """A checkpoint by what it tells of itself; not verified."""

    path: Path
    step: int
    epochs: int
    written: float
    configuration: dict[str, Any]
    between: bool

    @property
    def age(self) -> tuple[int, int, float]:
        """Order: the newest is the greatest. One of two of the same step was written later."""
        return self.step, self.epochs, self.written


def newest(
    folder: Path,
    here: Mapping[str, Any],
    *,
    others: Sequence[Path] = (),
    ckpt_path: str | None = None,
) -> Resumed | None:
    """Find the checkpoint that ``--resume auto`` goes on from, and say which it is.

    Args:
        folder: Of the run's versions.
        here: The present configuration, in plain types.
        others: More folders that may hold its checkpoints.
        ckpt_path: What ``--ckpt_path`` names, which must be nothing.

    Returns:
        The checkpoint, or ``None`` where there is none.

    Raises:
        RunCompleteError: If the run has trained all that it was asked to.
        ValueError: As :func:`choose_checkpoint`, and if a checkpoint is named too.
    """
    if ckpt_path is not None:
        raise ValueError(
            f"--resume auto looks for the checkpoint itself, and --ckpt_path names one "
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

    To go on training from it, other settings than those of its run are allowed, and said in a
    line.

    Args:
        ckpt_path: A file, or its address.
        here: The present configuration, in plain types.
        trains: Whether it is to go on training.

    Raises:
        CheckpointError: If it cannot be read.
        ValueError: If it is not from a run, or nothing is left to train.
    """
    path = local_file(ckpt_path)
    content = read_checkpoint(path)
    if "state_dict" not in content or "epoch" not in content:
        raise ValueError(
            f"{ckpt_path} holds weights but no run to go on with; to start from its weights use "
            "--model.init_args.init_from."
        )
    if trains and "optimizer_states" not in content:
        raise ValueError(
            f"{ckpt_path} holds no state of a training, as averages of networks do; to train on "
            "from its weights use --model.init_args.init_from."
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
    """Find the newest checkpoint of a run that verifies.

    Those of all its versions count, by the step in the file. They must have been written by the
    same run: what the images, the tasks, the network, its optimiser, the seed, the batches and the
    length of an epoch are must be as it is now. How long to train, where files lie, callbacks,
    logging, workers, device and precision may have changed.

    A checkpoint that does not verify is named in a line, with the reason; so is one that was saved
    between the batches of one step, whose gradients are in no file, and where there is none.

    Args:
        folder: Of the run's versions.
        configuration: The present one, in plain types.
        others: More folders that may hold its checkpoints.

    Returns:
        The checkpoint, or ``None`` where there is none.

    Raises:
        CheckpointError: If there are checkpoints and none verifies.
        ValueError: If there are checkpoints and all are of runs with other settings.
    """
    if not is_first_process() and (chosen := os.environ.get(_CHOSEN)) is not None:
        # a file that has appeared since must not part this process from the first
        return Resumed(Path(chosen), read_checkpoint(chosen)) if chosen else None
    found = _choose(folder, configuration, others)
    os.environ[_CHOSEN] = str(found.path) if found else ""
    return found


def forget_choice() -> None:
    """Let processes that are started from here on choose for themselves."""
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
        rank_zero_info(f"tl: starting from the beginning: no checkpoint below {folder}.")
        return None
    candidates: list[_Candidate] = []
    for path in paths:
        try:
            candidates.append(_look_into(path))
        except CheckpointError as error:
            rank_zero_info(f"tl: passed over: {error}")
    candidates.sort(key=lambda candidate: candidate.age, reverse=True)
    between = [candidate for candidate in candidates if candidate.between]
    for candidate in between:
        rank_zero_info(
            f"tl: passed over: {candidate.path}: was saved between the batches of one step, whose "
            "gradients it lacks. To take it all the same, name it by --ckpt_path."
        )
    whole = [candidate for candidate in candidates if not candidate.between]
    if (found := _newest_of_the_same_run(whole, configuration)) is not None:
        return found
    if len(between) == len(paths):
        rank_zero_info("tl: starting from the beginning: it ends as the run that was stopped.")
        return None
    raise CheckpointError(
        f"{folder}: none of its {len(paths)} checkpoints can be gone on from. Put a good copy "
        "there, or start anew under another --name."
    )


def _newest_of_the_same_run(
    candidates: Sequence[_Candidate], configuration: Mapping[str, Any]
) -> Resumed | None:
    """Return the first that verifies and has the present settings; ``None`` if none verifies.

    Raises:
        ValueError: If those that verify have other settings; names those of the first.
    """
    other: tuple[Path, str] | None = None
    for candidate in candidates:
        change = meaning(differences(candidate.configuration, configuration))
        if change and other is not None:
            continue
        try:  # a damaged one may well look like one with other settings
            content = read_checkpoint(candidate.path)
        except CheckpointError as error:
            rank_zero_info(f"tl: passed over: {error}")
            continue
        if not change:
            return Resumed(candidate.path, content)
        other = candidate.path, said(change)
    if other is not None:
        raise ValueError(
            f"{other[0]} is of a run with other settings: {other[1]}. Change them back, or give "
            "this run another --name; to go on all the same, name the checkpoint by --ckpt_path."
        )
    return None


def _look_into(path: Path) -> _Candidate:
    """Read what a checkpoint tells of itself, without reading its tensors.

    Raises:
        CheckpointError: If it cannot be read or is nothing to go on from.
    """
    content = glance_at(path)
    if "optimizer_states" not in content:
        raise CheckpointError(f"{path}: holds no state of a training.")
    try:
        step, configuration = content.get("global_step"), configuration_in(content, path)
        epochs, between = completed_epochs(content) or 0, between_batches(content)
    except (AttributeError, TypeError, ValueError):
        raise CheckpointError(
            f"{path}: is malformed, its progress is not as Lightning saves it."
        ) from None
    if not isinstance(step, int) or configuration is None:
        raise CheckpointError(f"{path}: does not say which configuration it was trained by.")
    written = path.stat().st_mtime if path.exists() else 0.0
    return _Candidate(path, step, epochs, written, configuration, between)


def trained(content: Mapping[str, Any], limits: Mapping[str, Any]) -> str | None:
    """Say how a run has ended, if a checkpoint is from its end; else ``None``.

    Args:
        content: What is in the checkpoint.
        limits: The Trainer's arguments: ``max_epochs``, ``max_steps``, ``min_epochs`` and
            ``callbacks``.
    """
    epochs, step = completed_epochs(content), content.get("global_step")
    most_epochs, most_steps = limits.get("max_epochs"), limits.get("max_steps")
    # averaging weights takes one more, for the running statistics of the average
    averages = "StochasticWeightAveraging" in str(limits.get("callbacks"))
    more = averages and any(key.endswith("running_mean") for key in content["state_dict"])
    if epochs is not None and most_epochs not in (None, -1) and epochs >= most_epochs + more:
        return (
            f"has completed {epochs} of {most_epochs} epochs. Raise --trainer.max_epochs to go on."
        )
    if isinstance(step, int) and most_steps not in (None, -1) and step >= most_steps:
        return f"has completed {step} of {most_steps} steps. Raise --trainer.max_steps to go on."
    if "EarlyStopping" not in str(limits.get("callbacks")):
        return None
    for name, state in content.get("callbacks", {}).items():
        stopped = state.get("stopped_epoch", 0) if str(name).startswith("EarlyStopping") else 0
        # a stop that came too early for `min_epochs` was not heeded
        enough = (epochs or 0) >= (limits.get("min_epochs") or 0)
        if enough and stopped and stopped == content.get("epoch"):
            return f"was ended by early stopping after {epochs} epochs. Leave that out to go on."
    return None


def say_going_on(resumed: Resumed, here: Mapping[str, Any]) -> None:
    """Say in a line from which checkpoint a run goes on, and in another if the machine differs.

    Args:
        resumed: The checkpoint.
        here: The present configuration.
    """
    rank_zero_info(
        f"tl: going on from {resumed.path}, at step {resumed.content.get('global_step')} in epoch "
        f"{completed_epochs(resumed.content)} (counted from 0)."
    )
    _say_between(resumed)
    there = configuration_in(resumed.content, resumed.path) or {}
    say_other_machine(there, here)
    say_other_length(there, here)


def _say_between(resumed: Resumed) -> None:
    if between_batches(resumed.content):
        rank_zero_info(
            f"tl: {resumed.path} was saved between the batches of one step, by a validation in "
            "it: what they had added to the gradient is not in it, and this step has less."
        )


def trained_nothing(step: int, folder: Path | None, resumed: Resumed | None) -> bool:
    """Tell if a run was over before it went on, as its callbacks found; then remove its folder.

    Args:
        step: Where it has ended.
        folder: Its run folder.
        resumed: What it has gone on from.
    """
    if folder is None or resumed is None or step != resumed.content.get("global_step"):
        return False
    if any(folder.glob("checkpoints/*")):
        return False  # what was left was to validate
    if is_first_process():
        print(f"tl: nothing was left to train at step {step}.")  # noqa: T201
        shutil.rmtree(folder, ignore_errors=True)
    return True
