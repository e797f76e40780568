"""Loaders as a Trainer's run needs them: divided among processes, resumable within an epoch."""

from __future__ import annotations

import inspect
import math
from abc import abstractmethod
from collections.abc import Mapping, Sized
from typing import Any, ClassVar, TypeVar, cast

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tl.data.errors import DataError
from tl.data.loaders import EpochSampler, InOrderSampler, even_batch_size, position_of
from tl.data.options import arguments_of
from tl.data.trained_on import same_data
from tl.tasks import Task

S = TypeVar("S", bound=EpochSampler)


class RunLoaders(LightningDataModule):
    """What the loaders of all sources have in common.

    Attributes:
        data_name: Name of the source.
        splits: The samples by split.
    """

    data_name: str
    splits: Any  # a dict of data sets, of one kind for each kind of source
    _to_resume: ClassVar[str]  # what a resumed run must keep, for its message
    _fixed: ClassVar[tuple[str, ...]] = ()  # arguments of the base that a subclass sets itself

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - as Python's own
        """Show the arguments that a subclass passes on along with its own."""
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            given = [each for name, each in arguments_of(cls).items() if name not in cls._fixed]
            cls.__signature__ = inspect.Signature(given)  # type: ignore[attr-defined]

    @property
    @abstractmethod
    def tasks(self) -> tuple[Task, ...]:
        """What is learned from the source."""

    @property
    def task(self) -> Task | None:
        """The only task; ``None`` if there are several."""
        return self.tasks[0] if len(self.tasks) == 1 else None

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Kind of the data, and a hash of what trains and validates."""

    @property
    def withholds(self) -> bool:
        """Whether training sees no labels."""
        return False

    def _refuse_supervised(self) -> None:
        """Refuse withheld labels that the model in training would read."""
        module = self.trainer.lightning_module if self.trainer is not None else None
        given = getattr(module, "tasks", None) or {}
        alone = getattr(self.trainer, "datamodule", None) is self
        for task in given.values() if isinstance(given, Mapping) else ():
            here = task.source == self.data_name or (alone and task.source is None)
            if here and task.trains and task.supervised:
                raise DataError(
                    f"Task {task.name!r} trains on labels, and its source {self.data_name} has "
                    "`labels: none`; set `labels: all`, or put it beside a labelled source in a "
                    "MultiTaskDataModule whose `shares` names the head that evaluates it."
                )

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must match."""
        return {"fingerprint": self.fingerprint}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to resume training on other data.

        Raises:
            DataError: If the fingerprint differs from the checkpoint's.
        """
        if self.trainer is not None and self.trainer.state.fn == "fit":
            name, then = getattr(self, "data_name", "The samples"), state_dict.get("fingerprint")
            same_data(name, str(then), self.fingerprint, self._to_resume)

    @abstractmethod
    def _in_order(self, split: str) -> DataLoader[Any]:
        """Return a loader that yields each sample of a split once, in order."""

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return every validation sample once over all processes; an empty list if none."""
        return self._in_order("val") if len(self.splits["val"]) else []

    def test_dataloader(self) -> DataLoader[Any]:
        """Return every test sample once over all processes."""
        return self._in_order("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the samples to predict, in order."""
        return self._in_order("predict")

    def _steps(self, batch_size: int) -> int:
        """Return the steps of one pass over the training samples, at least 1."""
        return max(1, len(self.splits["train"]) // (batch_size * self._world()))

    def _train_batch(self, batch_size: int) -> int:
        """Return the batch size, or a smaller one if there are fewer training samples."""
        return min(batch_size, math.ceil(len(self.splits["train"]) / self._world()))

    @property
    def _overfits(self) -> bool:
        """Whether the run trains on the same few batches again and again."""
        return self.trainer is not None and bool(self.trainer.overfit_batches)  # type: ignore[attr-defined]

    def _overfitting(self, loader: DataLoader[Any]) -> DataLoader[Any]:
        """Return a loader of training batches in order, which starts where the run stands."""
        self._resumable(cast("EpochSampler", loader.sampler))
        return loader

    def _resumable(self, sampler: S) -> S:
        """Let a training pass start where the run stands."""
        if (trainer := self.trainer) is not None:
            sampler.position = lambda: position_of(trainer)
        return sampler

    def _sampler_in_order(
        self,
        data: Dataset[Any],
        batch_size: int,
        sequence: Tensor | None,
        device: torch.device | None = None,
    ) -> InOrderSampler:
        world = self._world()
        return InOrderSampler(
            data,
            batch_size=even_batch_size(len(cast("Sized", data)), world, batch_size),
            num_replicas=world,
            rank=self._rank(),
            device=device,
            sequence=sequence,
        )

    def _world(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer is not None else 0
