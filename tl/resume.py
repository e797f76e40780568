"""Going on with a run: which checkpoint, and whether it is of the same run."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch.utilities import rank_zero_info

from tl.callbacks.atomic_io import remove_leftovers
from tl.runs import completed_epochs, is_first_process
from tl.transfer.errors import CheckpointError
from tl.transfer.files import read_checkpoint

# Set by the process that has chosen, for those that it starts.
_CHOSEN = "TL_RESUMED_FROM"

# Of the data: where they lie and how they are read, not what they are.
_FREE = ("root", "download", "offline", "num_workers", "eval_batch_size", "predict_folder")
# Of the Trainer: what a step and an epoch are.
_FIXED_TRAINER = (
    *("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm"),
    *("limit_train_batches", "overfit_batches"),
)
_MACHINE = ("accelerator", "devices", "num_nodes", "strategy", "precision")

Difference = tuple[str, Any, Any]


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


@dataclass(frozen=True)
class _Candidate:
    """A checkpoint by what it tells of itself; not verified."""

    path: Path
    step: int
    epochs: int
    configuration: dict[str, Any]

    @property
    def age(self) -> tuple[int, int, float]:
        """Order: the newest is the greatest. One of two of the same step was written later."""
        return self.step, self.epochs, self.path.stat().st_mtime


def choose_checkpoint(
    folder: Path, configuration: Mapping[str, Any], others: Sequence[Path] = ()
) -> Resumed | None:
    """Find the newest checkpoint of a run that verifies.

    Those of all its versions count, by the step in the file. They must have been written by the
    same run: what the images, the tasks, the network, its optimiser, the seed, the batches and the
    length of an epoch are must be as it is now. How long to train, where files lie, callbacks,
    logging, workers, device and precision may have changed.

    A checkpoint that does not verify is named in a line, with the reason; and it is said where
    there is none.

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
    changes = [meaning(differences(c.configuration, configuration)) for c in candidates]
    same = [c for c, change in zip(candidates, changes, strict=True) if not change]
    if candidates and not same:
        raise ValueError(
            f"{candidates[0].path} is of a run with other settings: {said(changes[0])}. Change "
            "them back, or give this run another --name; to go on all the same, name the "
            "checkpoint by --ckpt_path."
        )
    for candidate in same:
        try:
            content = read_checkpoint(candidate.path)
        except CheckpointError as error:
            rank_zero_info(f"tl: passed over: {error}")
            continue
        return Resumed(candidate.path, content)
    raise CheckpointError(
        f"{folder}: none of its {len(paths)} checkpoints can be gone on from. Put a good copy "
        "there, or start anew under another --name."
    )


def _look_into(path: Path) -> _Candidate:
    """Read what a checkpoint tells of itself, without reading its tensors.

    Raises:
        CheckpointError: If it cannot be read or is nothing to go on from.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # noqa: BLE001  # damaged, unsafe or of an old format: the reader says which
        content = read_checkpoint(path)
    if not isinstance(content, dict) or "optimizer_states" not in content:
        raise CheckpointError(f"{path}: holds no state of a training.")
    step, configuration = content.get("global_step"), configuration_in(content, path)
    if not isinstance(step, int) or configuration is None:
        raise CheckpointError(f"{path}: does not say which configuration it was trained by.")
    return _Candidate(path, step, completed_epochs(content) or 0, configuration)


def configuration_in(content: Mapping[str, Any], path: Path) -> dict[str, Any] | None:
    """Return the configuration of the run that wrote a checkpoint, in plain types.

    Args:
        content: What is in the checkpoint.
        path: Its file; ``config.yaml`` beside its folder is read where the checkpoint has none.
    """
    record = content.get("tl")
    found = record.get("configuration") if isinstance(record, Mapping) else None
    if not isinstance(found, Mapping):
        try:
            text = (path.parent.parent / "config.yaml").read_text(encoding="utf-8")
            found = yaml.safe_load(text)
        except (OSError, yaml.YAMLError, UnicodeDecodeError):
            return None
    return dict(found) if isinstance(found, Mapping) else None


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[Difference]:
    """List the keys in which two configurations differ, with both values."""
    before, after = _flat(there), _flat(here)
    missing = "not set"
    return [
        (key, before.get(key, missing), after.get(key, missing))
        for key in dict.fromkeys([*before, *after])
        if before.get(key, missing) != after.get(key, missing)
    ]


def _flat(value: object, key: str = "") -> dict[str, Any]:
    """Write nested mappings and lists as one, with dotted keys."""
    parts: dict[str, object] = {}
    if isinstance(value, Mapping):
        parts = {str(name): part for name, part in value.items()}
    elif isinstance(value, list):
        parts = {str(number): part for number, part in enumerate(value)}
    if not parts:
        return {key: value}
    found: dict[str, Any] = {}
    for name, part in parts.items():
        found |= _flat(part, f"{key}.{name}" if key else name)
    return found


def meaning(changes: Sequence[Difference]) -> list[Difference]:
    """Choose the differences that make it another run."""
    return [change for change in changes if _matters(change[0])]


def _matters(key: str) -> bool:
    section, *rest = key.split(".")
    if section == "trainer":
        return bool(rest) and rest[0] in _FIXED_TRAINER
    if section not in ("seed_everything", "data", "model"):
        return False
    of_data = section == "data" or "data" in rest[:-1]  # penalties have data of their own
    return not (of_data and rest[-1] in _FREE)


def said(changes: Sequence[Difference], limit: int = 4) -> str:
    """Join differences for a message."""
    shown = [
        f"{key} {_short(there)} there, {_short(here)} here" for key, there, here in changes[:limit]
    ]
    more = len(changes) - limit
    return "; ".join([*shown, f"and {more} more"] if more > 0 else shown)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - what fits in a line


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
    say_other_machine(configuration_in(resumed.content, resumed.path) or {}, here)


def say_other_machine(there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Say in a line that a run goes on on another device, or in another precision."""
    keys = {f"trainer.{name}" for name in _MACHINE}
    changes = [c for c in differences(there, here) if c[0] in keys]
    if changes:
        rank_zero_info(
            f"tl: goes on with {said(changes)}: not bit for bit as on the machine before."
        )


def say_other_settings(path: Path, content: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Say in a line how the settings of a run differ from those of a checkpoint it goes on from.

    Args:
        path: The checkpoint.
        content: What is in it.
        here: The present configuration.
    """
    there = configuration_in(content, path)
    if there is None:
        return
    if changes := meaning(differences(there, here)):
        rank_zero_info(
            f"tl: this run has other settings than {path}: {said(changes)}. The states of the "
            "optimiser and its schedule, learning rates among them, are the checkpoint's."
        )
    say_other_machine(there, here)


def trained(content: Mapping[str, Any], limits: Mapping[str, Any]) -> str | None:
    """Say how a run has ended, if a checkpoint is from its end; else ``None``.

    Args:
        content: What is in the checkpoint.
        limits: The Trainer's arguments: ``max_epochs``, ``max_steps``, ``min_epochs`` and
            ``callbacks``.
    """
    epochs, step = completed_epochs(content), content.get("global_step")
    most_epochs, most_steps = limits.get("max_epochs"), limits.get("max_steps")
    if epochs is not None and most_epochs not in (None, -1) and epochs >= most_epochs:
        return f"has completed {epochs} of {most_epochs} epochs"
    if isinstance(step, int) and most_steps not in (None, -1) and step >= most_steps:
        return f"has completed {step} of {most_steps} steps"
    if "EarlyStopping" not in str(limits.get("callbacks")):
        return None
    for name, state in content.get("callbacks", {}).items():
        stopped = state.get("stopped_epoch", 0) if str(name).startswith("EarlyStopping") else 0
        # a stop that came too early for `min_epochs` was not heeded
        enough = (epochs or 0) >= (limits.get("min_epochs") or 0)
        if enough and stopped and stopped == content.get("epoch"):
            return f"was ended by early stopping after {epochs} epochs"
    return None
