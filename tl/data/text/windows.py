"""An order in which batches hold texts of nearly one length, and that can be resumed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tl.data.images.resident import mixed_seed
from tl.data.loaders import EpochSampler


class LengthSampler(EpochSampler):
    """Shuffle, sort by length within windows, cut batches, and shuffle these within each window.

    Sorting within a window of some batches leaves little to fill up, and keeps every batch a random
    draw. The order is a function of (seed, epoch), a batch one of (seed, epoch, step). Each batch
    of all ranks together is cut among them, so that `k` ranks train on what one would with `k`
    times the batch size.

    Args:
        dataset: What is sampled.
        lengths: Tokens of each sample ``(N,)``.
        window: Batches in a window, 1 or more; 1 leaves the shuffled order.
        **options: As for :class:`~tl.data.loaders.EpochSampler`.
    """

    def __init__(self, dataset: Any, lengths: Tensor, window: int, **options: Any) -> None:  # noqa: ANN401
        super().__init__(dataset, **options)
        self.lengths = lengths
        self.window = window

    def order(self) -> Tensor:
        """All ranks' positions of this training epoch, ``(steps * batch * ranks,)`` int64."""
        plain = super().order()
        if self.window == 1:
            return plain
        size = self.batch_size * self.num_replicas
        generator = torch.Generator()
        generator.manual_seed(mixed_seed("windows", self.seed, self.epoch))
        windows = []
        for part in torch.split(plain, self.window * size):
            batches = part[self.lengths[part].argsort(stable=True)].view(-1, size)
            windows.append(batches[torch.randperm(len(batches), generator=generator)].flatten())
        return torch.cat(windows)
