"""Loaders of tokenised texts: an order that can be resumed, each evaluation text once."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from tl.data.loaders import (
    EpochSampler,
    InOrderSampler,
    LazyLoader,
    even_batch_size,
    is_cut,
    position_of,
)
from tl.data.text.text_set import Masking, TextSet
from tl.data.text.tokenizer import TextTokenizer
from tl.data.text.windows import LengthSampler


class TextLoaders(LightningDataModule):
    """The part of a source of text that makes loaders of its splits.

    Attributes:
        splits: The texts by split.
        batch_size: Texts per step and process.
        eval_batch_size: Texts per evaluation step and process.
        length_window: Batches that are sorted by length together.
        masked_tokens: Share of the tokens to guess.
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
        """Steps of one pass over the training texts by all processes together, at least 1."""
        return max(1, len(self.splits["train"]) // (self.batch_size * self._world()))

    def train_dataloader(self, steps: int | None = None) -> DataLoader[Any]:
        """Shuffled training batches; a run that resumes continues within an epoch.

        Args:
            steps: Length of the epoch; one pass by default.
        """
        data, trainer = self.splits["train"], self.trainer
        if trainer is not None and trainer.overfit_batches:  # type: ignore[attr-defined]
            loader = self._in_order("train", self.batch_size)
            cast("EpochSampler", loader.sampler).position = lambda: position_of(trainer)
            return loader
        sampler = LengthSampler(
            data,
            data.lengths,
            self.length_window,
            batch_size=min(self.batch_size, math.ceil(len(data) / self._world())),
            steps_per_epoch=steps or self.train_steps(),
            seed=self.seed,
            num_replicas=self._world(),
            rank=self._rank(),
        )
        if trainer is not None:
            sampler.position = lambda: position_of(trainer)
        return _loader(data.masked(self._masking(), lambda: sampler.epoch), sampler)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Every validation text once over all processes; an empty list if there is none."""
        return self._in_order("val") if len(self.splits["val"]) else []

    def test_dataloader(self) -> DataLoader[Any]:
        """Every test text once over all processes."""
        return self._in_order("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The texts to predict, in order."""
        return self._in_order("predict")

    def _in_order(self, split: str, batch_size: int | None = None) -> DataLoader[Any]:
        data, world = self.splits[split], self._world()
        sequence = data.mixed() if is_cut(self.trainer, split) else None
        if sequence is None and split != "predict":
            sequence = data.lengths.argsort(stable=True)  # little to fill up
        sampler = InOrderSampler(
            data,
            batch_size=even_batch_size(len(data), world, batch_size or self.eval_batch_size),
            num_replicas=world,
            rank=self._rank(),
            sequence=sequence,
        )
        return _loader(data if split == "predict" else data.masked(self._masking()), sampler)

    def _masking(self) -> Masking | None:
        if not self.masked_tokens:
            return None
        return Masking(self.tokenizer, self.masked_tokens, self.seed)

    def _world(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0


def _loader(data: TextSet, sampler: EpochSampler) -> DataLoader[Any]:
    return LazyLoader(
        data,
        batch_size=None,  # the sampler gives whole batches, as tensors
        sampler=sampler,
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
    )


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401 - a pair, or a dict of them
    return batch
