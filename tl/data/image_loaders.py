"""Loaders of images: stored, streamed, augmented and normalised on the device that trains."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tl.data.errors import DataError
from tl.data.images.pipeline import Pipeline
from tl.data.images.resident import Batch, ImageDataset, single
from tl.data.images.store import Pick, StoredDataset
from tl.data.loaders import EpochSampler, is_cut, make_loader, mixed_order, random_order
from tl.data.run_loaders import RunLoaders
from tl.data.sampling import balancing_task, labels_to_balance
from tl.data.source_options import SourceOptions


class ImageLoaders(SourceOptions, RunLoaders):
    """The part of a source of images between its splits and the network.

    Attributes:
        data_name: Name of the source.
        splits: The images by split.
    """

    data_name: str
    splits: dict[str, ImageDataset]
    _pipeline: Pipeline | None
    _unread: DataError | None  # why an evaluation has no images yet

    @abstractmethod
    def _restore_train_split(self) -> None:
        """Load the training images of a checkpoint that is evaluated."""

    def train_steps(self) -> int:
        """Return the steps of one pass over the training images by all processes, at least 1."""
        return self._steps(self.settings.batch_size)

    def train_dataloader(self, steps: int | None = None) -> DataLoader[Batch]:
        """Return shuffled training batches.

        In a Trainer's run, images on its device come as `store.Pick`: `transform` cuts them.

        Args:
            steps: Length of the epoch; one pass by default. Longer epochs recycle the images in a
                new order for each pass.
        """
        if "train" not in self.splits:
            self._restore_train_split()
        data = self.splits["train"]
        if self.withholds:
            self._refuse_supervised()
        if self._overfits:
            return self._overfitting(self._in_order("train", self.settings.batch_size))
        stored = self._stored("train")
        device = self._root_device() if stored else None
        sampler = self._train_sampler(data, steps or self.train_steps(), device)
        return make_loader(stored or data, self._resumable(sampler), self.settings.num_workers)

    def _train_sampler(
        self, data: ImageDataset, steps: int, device: torch.device | None
    ) -> EpochSampler:
        """Return the order of an epoch of so many steps, with positions on a device."""
        return EpochSampler(
            data,
            batch_size=self._train_batch(self.settings.batch_size),
            steps_per_epoch=steps,
            seed=self.settings.seed,
            num_replicas=self._world(),
            rank=self._rank(),
            device=device,
            balanced=self._balanced(data),
        )

    def _balanced(self, data: ImageDataset) -> Tensor | None:
        """Return the classes to balance, if any."""
        if self.settings.sampling != "balanced":
            return None
        if self.withholds:
            raise DataError(
                f"{self.data_name}: `sampling: balanced` reads the labels that `labels: none` "
                "withholds; set `sampling: shuffled` for this source."
            )
        task = balancing_task(self.tasks, self.settings.balanced_by, self.data_name)
        return labels_to_balance(task, single(data.targets), self.data_name)

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """Return every validation image once over all processes; an empty list if `val_size` is 0.

        Raises:
            DataError: If `val_size` is 0 and the run only validates.
        """
        if self._unread is not None:
            raise self._unread
        if not len(self.splits["val"]) and self.trainer and self.trainer.state.fn == "validate":
            raise DataError(
                f"{self.data_name} has no validation images: `val_size` is 0. Use `test`, or "
                "validate with the `val_size` of the training run."
            )
        return super().val_dataloader()

    def _in_order(self, split: str, batch_size: int | None = None) -> DataLoader[Batch]:
        if self._unread is not None:
            raise self._unread
        data, stored = self.splits[split], self._stored(split)
        order = random_order(self.trainer, split, len(data))
        if order is None and is_cut(self.trainer, split):
            order = mixed_order(data.targets.values(), len(data))
        sampler = self._sampler_in_order(
            data,
            batch_size or self.settings.eval_batch_size,
            order,
            self._root_device() if stored else None,
        )
        return make_loader(stored or data, sampler, self.settings.num_workers)

    def _stored(self, split: str) -> StoredDataset | None:
        return self._ready().stored(split, self.splits[split], self._root_device())

    def _root_device(self) -> torch.device | None:
        return self.trainer.strategy.root_device if self.trainer is not None else None

    # On the device

    def transfer_batch_to_device(
        self,
        batch: Any,  # noqa: ANN401
        device: torch.device,
        dataloader_idx: int,
    ) -> Any:  # noqa: ANN401
        """Move a batch to the training device, unless it is there."""
        if isinstance(batch, tuple) and isinstance(batch[0], Pick):
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment training images and normalise all, on the training device."""
        del dataloader_idx
        trainer = self.trainer
        if trainer is None or not trainer.training:
            shows = trainer is not None and not trainer.predicting
            fixed = self._ready().evaluation_draws(batch) if shows else None
            return self._in_precision(self.transform(batch, fixed))
        step = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        draws = self._ready().draws(batch, trainer.current_epoch, step, trainer.global_rank)
        return self._in_precision(self.transform(batch, draws))

    def _in_precision(self, batch: Batch) -> Batch:
        """Convert images to the type in which the Trainer keeps the weights."""
        if self.trainer is None:
            return batch
        converted: Batch = self.trainer.precision_plugin.convert_input(batch)
        return converted

    def transform(self, batch: Batch, draws: Tensor | None) -> Batch:
        """Normalise a batch, and augment it first if random numbers are given.

        See `tl.data.images.pipeline.Pipeline.transform`.
        """
        return self._ready().transform(batch, draws)

    def _ready(self) -> Pipeline:
        if self._pipeline is None:
            raise RuntimeError(
                "Call `setup` before `transform`: the statistics come from the data."
            )
        return self._pipeline
