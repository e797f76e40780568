"""Compare a checkpoint's settings with the current ones: does it belong to the same run?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_info

from tl.reading import read_yaml
from tl.report.finished_run import flat
from tl.report.results import shortened

# Data options: where they are stored and how they are read, not what they are.
_FREE = (
    *("root", "download", "offline", "num_workers", "eval_batch_size", "predict_folder", "verify"),
    # the fingerprint of the loaded data reflects these
    *("resident_share", "on_bad_image", "pixel_range", "test_size"),
)
# Model options without effect on the weights: how to treat bad steps, and replays of good ones.
_FREE_OF_MODEL = ("on_nonfinite", "max_skips", "cuda_graph")
# Trainer options that define a step and an epoch.
_FIXED_TRAINER = (
    *("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm"),
    *("limit_train_batches", "overfit_batches"),
)
_MACHINE = ("accelerator", "devices", "num_nodes", "strategy", "precision")
_LENGTH = ("max_epochs", "max_steps")

Difference = tuple[str, Any, Any]


def configuration_in(content: Mapping[str, Any], path: Path) -> dict[str, Any] | None:
    """Return the configuration of the run that wrote a checkpoint, in plain types.

    Args:
        content: Content of the checkpoint.
        path: Its file; ``config.yaml`` beside its folder is
            read if the checkpoint has none.
    """
    record = content.get("tl")
    found = record.get("configuration") if isinstance(record, Mapping) else None
    if not isinstance(found, Mapping):
        try:
            found = read_yaml(path.parent.parent / "config.yaml")
        except (OSError, yaml.YAMLError, ValueError):
            return None
    return dict(found) if isinstance(found, Mapping) else None


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[Difference]:
    """List the keys whose values differ between two configurations, with both values.

    A new option that is null is not a difference: an older run does not know it.
    """
    before, after = flat(there), flat(here)
    missing = "not set"
    return [
        (key, before.get(key, missing), after.get(key, missing))
        for key in dict.fromkeys([*before, *after])
        if before.get(key, missing) != after.get(key, missing) and not _is_new(key, before, after)
    ]


def _is_new(key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    known = key in before or any(other.startswith(f"{key}.") for other in before)
    return not known and after[key] is None


def meaning(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[Difference]:
    """Return the differences between two configurations that make it a different run."""
    now = flat(here)
    return [
        change
        for change in differences(there, here)
        if _matters(change[0]) or _changes_scores(change[0], now)
    ]


def _changes_scores(key: str, settings: Mapping[str, Any]) -> bool:
    """Return whether scores depend on the size of evaluated batches: on two views they do.

    NT-Xent, VICReg and Barlow Twins compare the images of a batch with each other, and the views of
    an image depend on its place in a batch.
    """
    owner, _, name = key.rpartition(".")
    if name != "eval_batch_size" or not key.startswith("data."):
        return False
    return any(
        value is not None and other.startswith(f"{owner}.") and "learns" in other.split(".")
        for other, value in settings.items()
    )


def _matters(key: str) -> bool:
    section, *rest = key.split(".")
    if section == "trainer":
        return bool(rest) and rest[0] in _FIXED_TRAINER
    if section not in ("seed_everything", "data", "model"):
        return False
    if section == "model" and rest[1:] and rest[1] in _FREE_OF_MODEL:
        return False
    of_data = section == "data" or "data" in rest[:-1]  # penalties have data of their own
    return not (of_data and rest[-1] in _FREE)


def said(changes: Sequence[Difference], limit: int = 4) -> str:
    """Join differences for a message."""
    shown = [
        f"{key} {shortened(there)} there, {shortened(here)} here"
        for key, there, here in changes[:limit]
    ]
    more = len(changes) - limit
    return "; ".join([*shown, f"and {more} more"] if more > 0 else shown)


def say_other_machine(there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Log that a run resumes on another device or in another precision."""
    if changes := _of_trainer(differences(there, here), _MACHINE):
        rank_zero_info(
            f"tl: resumes with {said(changes)}: not bit for bit as on the earlier machine."
        )


def say_other_length(there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Log that the length of a run has changed, which learning rates may depend on."""
    changes = _of_trainer(differences(there, here), _LENGTH)
    if changes and (here["model"].get("init_args") or {}).get("scheduler"):
        rank_zero_info(
            f"tl: resumes with {said(changes)}: a schedule over the whole run, such as "
            "WarmupCosine, follows the new length, so learning rates may jump."
        )


def _of_trainer(changes: Sequence[Difference], names: Sequence[str]) -> list[Difference]:
    return [change for change in changes if change[0] in {f"trainer.{name}" for name in names}]


def say_other_settings(path: Path, content: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Log how a run's settings differ from those of the checkpoint it resumes from."""
    there = configuration_in(content, path)
    if there is None:
        return
    if changes := meaning(there, here):
        rank_zero_info(
            f"tl: settings differ from those of {path}: {said(changes)}. Optimizer and schedule "
            "states, including learning rates, come from the checkpoint."
        )
    say_other_machine(there, here)
    say_other_length(there, here)
