"""Loaders of tokenised texts: a resumable order, and each evaluation text exactly once."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

import torch
from torch.utils.data import DataLoader

from tl.data.loaders import EpochSampler, LazyLoader, is_cut
from tl.data.run_loaders import RunLoaders
from tl.data.text.text_set import Masking, TextSet
from tl.data.text.tokenizer import TextTokenizer
from tl.data.text.windows import LengthSampler


class TextLoaders(RunLoaders):
    """The part of a source of text that builds the loaders of its splits.

    Attributes:
        splits: The texts by split.
        batch_size: Texts per step and process.
        eval_batch_size: Texts per evaluation step and process.
        length_window: Number of batches that are sorted by length together.
        masked_tokens: Fraction of the tokens to predict.
        seed: Seed of order and masks.
    """

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
        if self._overfits:
            loader = self._in_order("train", self.batch_size)
            self._resumable(cast("EpochSampler", loader.sampler))
            return loader
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
        return _loader(masked, self._resumable(sampler))

    def _in_order(self, split: str, batch_size: int | None = None) -> DataLoader[Any]:
        data = self.splits[split]
        sequence = data.mixed() if is_cut(self.trainer, split) else None
        if sequence is None and split != "predict":
            sequence = data.lengths.argsort(stable=True)  # little padding
        sampler = self._sampler_in_order(data, batch_size or self.eval_batch_size, sequence)
        return _loader(data if split == "predict" else data.masked(self._masking()), sampler)

    def _masking(self) -> Masking | None:
        if not self.masked_tokens:
            return None
        return Masking(self.tokenizer, self.masked_tokens, self.seed)


def _loader(data: TextSet, sampler: EpochSampler) -> DataLoader[Any]:
    return LazyLoader(
        data,
        batch_size=None,  # the sampler yields whole batches, as tensors
        sampler=sampler,
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
    )


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401 - a pair, or a dict of them
    return batch
