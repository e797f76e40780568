"""Resuming a run: which checkpoint, and whether it belongs to the same run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from tl.checkpoints.files import local_file, read_checkpoint
from tl.counting import counted
from tl.runs.choosing import Resumed, choose_checkpoint
from tl.runs.folders import between_batches, completed_epochs, is_first_process
from tl.runs.same_run import (
    configuration_in,
    say_other_length,
    say_other_machine,
    say_other_settings,
)


class RunCompleteError(Exception):
    """Nothing to resume: the run is complete."""


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
    log_resumed(found, here)
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
            f"has completed {epochs} of {counted(most_epochs, 'epoch')}. Raise "
            "--trainer.max_epochs to "
            "continue."
        )
    if isinstance(step, int) and most_steps not in (None, -1) and step >= most_steps:
        return (
            f"has completed {step} of {counted(most_steps, 'step')}. Raise --trainer.max_steps "
            "to continue."
        )
    if "EarlyStopping" not in str(limits.get("callbacks")):
        return None
    for name, state in content.get("callbacks", {}).items():
        stopped = state.get("stopped_epoch", 0) if str(name).startswith("EarlyStopping") else 0
        # a stop before `min_epochs` was ignored
        enough = (epochs or 0) >= (limits.get("min_epochs") or 0)
        if enough and stopped and stopped == content.get("epoch"):
            return (
                f"was ended by early stopping after {counted(epochs or 0, 'epoch')}. Leave it "
                "out to continue."
            )
    return None


def log_resumed(resumed: Resumed, here: Mapping[str, Any]) -> None:
    """Log which checkpoint a run resumes from, and whether machine or length differ."""
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
    """Return whether callbacks ended a resumed run before any step; then remove its folder."""
    if folder is None or resumed is None or step != resumed.content.get("global_step"):
        return False
    if any(folder.glob("checkpoints/*")):
        return False  # only a validation was left
    if is_first_process():
        print(f"tl: the run was already complete at step {step}.")  # noqa: T201
        shutil.rmtree(folder, ignore_errors=True)
    return True
