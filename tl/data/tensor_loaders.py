"""Loaders of samples in memory: a resumable order, and each evaluation sample exactly once."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tl.batch import Inputs, on_each, size_of
from tl.data.errors import DataError
from tl.data.loaders import EpochSampler, is_cut, make_loader
from tl.data.run_loaders import RunLoaders
from tl.data.sampling import Sampling, balancing_task, labels_to_balance
from tl.data.tensor_set import TensorSet
from tl.tasks import Task


class TensorLoaders(RunLoaders):
    """The part of a data module of arrays that builds the loaders of its splits.

    Attributes:
        splits: The samples by split.
        tasks: What to learn from them.
        batch_size: Samples per process and step.
        seed: Seed of the order.
        sampling: Whether every sample or every class occurs equally often.
        balanced_by: Task or target whose classes are balanced.
    """

    splits: dict[str, TensorSet]
    tasks: tuple[Task, ...]
    batch_size: int
    seed: int
    sampling: Sampling
    balanced_by: str | None

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled training batches; a resumed run continues within an epoch."""
        data = self.splits["train"]
        if self._overfits:
            loader = self._in_order("train")
            self._resumable(cast("EpochSampler", loader.sampler))
            return loader
        size = self._train_batch(self.batch_size)
        sampler = EpochSampler(
            data,
            batch_size=size,
            steps_per_epoch=self._steps(size),
            seed=self.seed,
            num_replicas=self._world(),
            rank=self._rank(),
            balanced=self._balanced(data),
        )
        return make_loader(data, self._resumable(sampler), 0)

    def _balanced(self, data: TensorSet) -> Tensor | None:
        """Return the classes to balance, if any."""
        if self.sampling != "balanced":
            return None
        task = balancing_task(self.tasks, self.balanced_by, "The data")
        targets = on_each(lambda part: part[data.rows], cast("Inputs", data.targets))
        return labels_to_balance(task, targets, "The data")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return every test sample once over all processes.

        Raises:
            DataError: If there are none.
        """
        if "test" not in self.splits:
            raise DataError("There is nothing to test: give `test_inputs` and `test_targets`.")
        if self.splits["test"].targets is None:
            raise DataError("`test_inputs` without targets are predicted; give `test_targets`.")
        return self._in_order("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the test inputs in order; without any, all other inputs."""
        data = self.splits["test" if "test" in self.splits else "train"]
        rows = torch.arange(size_of(data.inputs))
        self.splits["predict"] = TensorSet(data.inputs, None, rows)
        return self._in_order("predict")

    def _in_order(self, split: str) -> DataLoader[Any]:
        data = self.splits[split]
        sequence = data.mixed() if is_cut(self.trainer, split) else None
        return make_loader(data, self._sampler_in_order(data, self.batch_size, sequence), 0)
