"""Loaders of several sources as one: a batch of each in every step."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import CombinedLoader

from tl.data.images.resident import Batch
from tl.data.sources import Source
from tl.tasks import Task

MultiBatch = dict[str, Batch | None]


class JointLoaders(LightningDataModule):
    """The part of a data module of several sources that combines their loaders and batches."""

    sources: Mapping[str, Source]
    epoch_length: Literal["longest", "shortest"] | int

    @property
    @abstractmethod
    def tasks(self) -> tuple[Task, ...]:
        """All sources' tasks."""

    @property
    @abstractmethod
    def withheld_sources(self) -> tuple[str, ...]:
        """Sources whose labels training does not see."""

    @property
    def trained_sources(self) -> dict[str, Source]:
        """The sources that training reads: a task trains on them, or labels are withheld."""
        read = {task.source for task in self.tasks if task.trains} | {*self.withheld_sources}
        return {name: source for name, source in self.sources.items() if name in read}

    def train_steps(self) -> int:
        """Steps of a training epoch."""
        if isinstance(self.epoch_length, int):
            return self.epoch_length
        lengths = [source.train_steps() for source in self.trained_sources.values()]
        return max(lengths) if self.epoch_length == "longest" else min(lengths)

    def train_dataloader(self) -> CombinedLoader:
        """Return batches of all trained sources, step by step, for an epoch of `train_steps`."""
        steps = self.train_steps()
        loaders = {name: s.train_dataloader(steps) for name, s in self.trained_sources.items()}
        return CombinedLoader(loaders, "min_size")

    def val_dataloader(self) -> CombinedLoader | list[Any]:
        """Return every validation image of every source once."""
        loaders = {name: s.val_dataloader() for name, s in self.sources.items()}
        loaders = {name: loader for name, loader in loaders.items() if loader != []}
        return CombinedLoader(loaders, "max_size") if loaders else []

    def test_dataloader(self) -> CombinedLoader:
        """Return every test image of every source once."""
        return CombinedLoader({n: s.test_dataloader() for n, s in self.sources.items()}, "max_size")

    def predict_dataloader(self) -> CombinedLoader:
        """Return the images to predict, source by source, as Lightning requires."""
        loaders = {name: source.predict_dataloader() for name, source in self.sources.items()}
        for name, loader in loaders.items():
            loader.collate_fn = partial(_named, name)
        return CombinedLoader(loaders, "sequential")

    def transfer_batch_to_device(
        self,
        batch: Any,  # noqa: ANN401
        device: torch.device,
        dataloader_idx: int,
    ) -> Any:  # noqa: ANN401
        """Move each source's part to the training device, unless it is there."""
        if not isinstance(batch, dict):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        return {
            n: part and self.sources[n].transfer_batch_to_device(part, device, dataloader_idx)
            for n, part in batch.items()
        }

    def on_after_batch_transfer(self, batch: MultiBatch, dataloader_idx: int) -> MultiBatch:
        """Augment and normalise each source's images, on the training device."""
        return {
            n: part and self.sources[n].on_after_batch_transfer(part, dataloader_idx)
            for n, part in batch.items()
        }


def _named(source: str, batch: Batch) -> MultiBatch:
    """Collate function: return a batch of one source as a multi-task batch."""
    return {source: batch}
