"""Loaders of tokenised texts: a resumable order, and each evaluation text exactly once."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tl.data.images.resident import mixed_seed
from tl.data.loaders import EpochSampler, is_cut, make_loader, random_order
from tl.data.run_loaders import RunLoaders
from tl.data.text.masking import mask_tokens
from tl.data.text.text_set import Masking, TextSet
from tl.data.text.tokenizer import TextTokenizer


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


class TextLoaders(RunLoaders):
    """The part of a source of text that builds the loaders of its splits; see `TextOptions`."""

    splits: dict[str, TextSet]
    batch_size: int
    eval_batch_size: int
    length_window: int
    masked_tokens: float
    seed: int

    @property
    @abstractmethod
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer of the texts."""

    def train_steps(self) -> int:
        """Return the steps of one pass over the training texts by all processes, at least 1."""
        return self._steps(self.batch_size)

    def train_dataloader(self, steps: int | None = None) -> DataLoader[Any]:
        """Return shuffled training batches; a resumed run continues within an epoch.

        Args:
            steps: Length of the epoch; one pass by default.
        """
        data = self.splits["train"]
        if self.withholds:
            self._refuse_supervised()
        if self._overfits:
            return self._overfitting(self._in_order("train", self.batch_size))
        sampler = LengthSampler(
            data,
            data.lengths,
            self.length_window,
            batch_size=self._train_batch(self.batch_size),
            steps_per_epoch=steps or self.train_steps(),
            seed=self.seed,
            num_replicas=self._world(),
            rank=self._rank(),
        )
        masked = data.masked(self._masking(), lambda: sampler.epoch)
        return make_loader(masked, self._resumable(sampler), 0)

    def _in_order(self, split: str, batch_size: int | None = None) -> DataLoader[Any]:
        data = self.splits[split]
        sequence = random_order(self.trainer, split, len(data))
        if sequence is None and is_cut(self.trainer, split):
            sequence = data.mixed()
        if sequence is None and split != "predict":
            sequence = data.lengths.argsort(stable=True)  # little padding
        sampler = self._sampler_in_order(data, batch_size or self.eval_batch_size, sequence)
        shown = data if split == "predict" else data.masked(self._masking())
        return make_loader(shown, sampler, 0)

    def _masking(self) -> Masking | None:
        if not self.masked_tokens:
            return None
        return partial(
            mask_tokens,
            seed=self.seed,
            rate=self.masked_tokens,
            mask_id=cast("int", self.tokenizer.mask_id),  # the source refuses a tokenizer without
            special=self.tokenizer.special_ids,
            vocab_size=self.tokenizer.vocab_size,
        )
