"""Random numbers of a training step as a function of (seed, epoch, step, rank)."""

from __future__ import annotations

import os
import random

import numpy as np
import torch
from lightning.pytorch import Trainer

from tl.data.images.resident import mixed_seed


def seed_step(seed: int, epoch: int, step: int, rank: int, device: torch.device) -> None:
    """Seed the global generators before a training step: torch on CPU and device, Python, numpy.

    Dropout, and whatever else uses them, then draws the same numbers in a resumed run as in an
    uninterrupted one, whatever was drawn before, for instance in validation.

    Args:
        seed: The run's seed.
        epoch: The current epoch.
        step: Index of the batch in the epoch; with accumulation, each batch has its own numbers.
        rank: Rank of this process.
        device: Device of the network.
    """
    seed = mixed_seed("step", seed, epoch, step, rank)
    if device.type == "cpu":
        # not `torch.manual_seed`, which queries every type of device
        torch.default_generator.manual_seed(seed)
    elif device.type == "cuda":
        torch.default_generator.manual_seed(seed)
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    else:
        torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002 - for code that uses it


def run_seed(trainer: Trainer, known: int | None) -> int:
    """Return the seed of a run, the same in all processes.

    Args:
        trainer: The Trainer.
        known: Seed of the run that this one continues, if any.

    Returns:
        `seed_everything`; without one, the known seed, or what torch was seeded with.
    """
    if (given := os.environ.get("PL_GLOBAL_SEED")) is not None:
        return int(given)
    found: int = trainer.strategy.broadcast(torch.initial_seed()) if known is None else known
    return found
