"""Run folders ``<log_dir>/<name>/version_N``, and what their checkpoints tell of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from lightning.pytorch.utilities import rank_zero_only


def numbered_versions(folder: Path) -> list[int]:
    """List the N of all ``version_N`` in a folder."""
    names = (path.name.removeprefix("version_") for path in folder.glob("version_*"))
    return [int(name) for name in names if name.isdigit()]


def new_run_folder(parent: Path) -> Path:
    """Make ``parent/version_N`` with the next free N; only the first process makes it."""
    number = max(numbered_versions(parent), default=-1) + 1
    while True:
        folder = parent / f"version_{number}"
        if getattr(rank_zero_only, "rank", None) not in (None, 0):
            return folder
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def latest_checkpoint(folder: Path) -> Path:
    """Find the best checkpoint of the newest run below a folder, or else the last.

    Raises:
        ValueError: If there is none.
    """
    for version in sorted(numbered_versions(folder), reverse=True):
        for name in ("best.ckpt", "last.ckpt"):
            path = folder / f"version_{version}" / "checkpoints" / name
            if path.exists():
                return path
    raise ValueError(
        f"No checkpoint to evaluate: there is no {folder}/version_*/checkpoints/best.ckpt. Give "
        "one with --ckpt_path, or run fit first."
    )


def completed_epochs(checkpoint: Mapping[str, Any]) -> int | None:
    """Count the epochs that a run had trained when it was saved; ``None`` if it does not say."""
    loops = checkpoint.get("loops", {}).get("fit_loop", {})
    progress = loops.get("epoch_progress", {}).get("current", {})
    batches = loops.get("epoch_loop.batch_progress", {})
    current = batches.get("current", {})
    if batches.get("is_last_batch") and current.get("ready") == current.get("processed"):
        # saved after validation, when all is trained but the epoch is not yet counted
        return cast("int | None", progress.get("ready"))
    return cast("int | None", progress.get("completed"))
