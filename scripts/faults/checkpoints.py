"""Checkpoints as trials look at them: which is the newest, whether two hold the same bits."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tl.callbacks import AtomicCheckpointIO
from tl.checkpoints.files import read_checkpoint

COMPARED = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch")
READERS: tuple[Callable[[Path], dict[str, Any]], ...] = (
    read_checkpoint,
    AtomicCheckpointIO().load_checkpoint,
)


def content(path: Path | None) -> dict[str, Any]:
    """What must be the same in the end."""
    return compared(read_checkpoint(path) if path else {})


def compared(read: dict[str, Any]) -> dict[str, Any]:
    """Choose what must be the same of a checkpoint, with the best score so far.

    But not the schedule of averaged weights (SWALR): it has ended before the last epoch, and a run
    that resumes in that one does not build it again.
    """
    states = read.get("callbacks", {}).values()
    best = [state["best_model_score"] for state in states if state.get("monitor")]
    found = {key: read.get(key) for key in COMPARED}
    schedules = found["lr_schedulers"]
    if schedules:
        found["lr_schedulers"] = [each for each in schedules if "anneal_epochs" not in each]
    return {**found, "best": best}


def newest(log: Path) -> Path | None:
    """The last checkpoint of a run, in the newest of its folders that has one."""
    found = log.glob("run/version_*/checkpoints/last.ckpt")
    return max(
        found, key=lambda path: int(path.parents[1].name.removeprefix("version_")), default=None
    )


def intact_step(log: Path) -> int:
    """The furthest step in a checkpoint that can be read; 0 without one."""
    steps = [0]
    for path in log.rglob("*.ckpt"):
        try:
            steps.append(read_checkpoint(path)["global_step"])
        except ValueError:
            continue
    return max(steps)


def equal(a: object, b: object) -> bool:
    """Whether two checkpoints hold the same bits."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        alike = a.dtype == b.dtype and a.shape == b.shape
        return alike and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


def refused_or_same(path: Path, intact: dict[str, Any]) -> bool:
    """Whether each reader refuses a damaged checkpoint in one line or finds what was in it."""
    for read in READERS:
        try:
            found = read(path)
        except (ValueError, OSError) as refusal:
            if "\n" in str(refusal):
                return False
        else:
            if not equal(compared(found), intact):
                return False
    return True


def cut(path: Path, keep: int) -> None:
    """Truncate a file to so many bytes."""
    with path.open("r+b") as file:
        file.truncate(keep)


def flip(path: Path, rng: random.Random) -> None:
    """Flip a random bit of a file."""
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
