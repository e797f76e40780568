"""A resumable order in which each batch holds texts of similar length."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tl.data.images.resident import mixed_seed
from tl.data.loaders import EpochSampler


class LengthSampler(EpochSampler):
    """Shuffle, sort by length within windows, cut batches, and shuffle these within each window.

    Sorting within a window of several batches leaves little padding and keeps batches random. The
    order is a function of (seed, epoch), and a batch of (seed, epoch, step). The ranks divide each
    joint batch, so `k` ranks train on the batches of a single rank with `k` times the batch size.

    Args:
        dataset: The data set; only its length is used.
        lengths: Number of tokens of each sample ``(N,)``.
        window: Batches per window, 1 or more; 1 keeps the shuffled order.
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
