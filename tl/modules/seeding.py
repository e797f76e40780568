"""Random draws of a training step as a function of (seed, epoch, step, rank)."""

from __future__ import annotations

import os
import random

import numpy as np
import torch

from tl.data.images.resident import mixed_seed


def seed_step(seed: int, epoch: int, step: int, rank: int, device: torch.device) -> None:
    """Seed what a training step may draw from: torch on CPU and device, Python and numpy.

    A run that resumes then draws what one that was never stopped draws, in dropout and wherever
    else nobody passes a generator; what was drawn before, as in validation, does not matter.

    Args:
        seed: The run's seed.
        epoch: Current epoch.
        step: Batch in the epoch; with accumulation each has draws of its own.
        rank: This process.
        device: Where the network is.
    """
    seed = mixed_seed("step", seed, epoch, step, rank)
    if device.type == "cpu":
        # not `torch.manual_seed`, which asks every kind of device there might be
        torch.default_generator.manual_seed(seed)
    elif device.type == "cuda":
        torch.default_generator.manual_seed(seed)
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)
    else:
        torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002 - what others draw from, not we


class StepSeeds:
    """Seeds the training steps of a run by its `seed_everything`."""

    def __init__(self) -> None:
        self._seed = 0

    def begin(self) -> None:
        """Take the seed of the run that is about to train."""
        self._seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))

    def set(self, epoch: int, step: int, rank: int, device: torch.device) -> None:
        """Seed a step; see :func:`seed_step`."""
        seed_step(self._seed, epoch, step, rank, device)
