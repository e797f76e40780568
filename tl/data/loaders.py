"""Images to batches: an order that can be resumed, and each evaluation image exactly once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from tl.data.errors import DataError
from tl.data.resident import Batch, ImageDataset, mixed_seed


def as_batch(batch: Batch | list[Any]) -> Batch:
    """Collate function for data sets that cut whole batches themselves."""
    return cast("Batch", batch)


class LazyLoader(DataLoader[Batch]):
    """A loader whose workers begin with the first batch that is asked for, not before.

    Lightning makes the iterator of a run that resumes before it knows where the run stopped, and
    workers would already be at work on batches of the first epoch.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch's class is narrower
        """Yield the batches."""
        yield from super().__iter__()


def make_loader(
    data: ImageDataset, sampler: EpochSampler, batch_size: int, num_workers: int
) -> DataLoader[Batch]:
    """Cut batches in the sampler's order, in this process or by workers."""
    return LazyLoader(
        data,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=as_batch,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
    )


class EpochSampler(DistributedSampler[Any]):
    """The order of one epoch as a pure function of (seed, epoch), cut into ranks without padding.

    For training, an endless sequence of permutations (each one seeded by seed, epoch and its
    number) is cut to `steps_per_epoch` batches: a short data set is recycled in a new order
    every time. For evaluation each index comes exactly once over all ranks; none is repeated.
    Lightning recognises a `DistributedSampler`, calls `set_epoch` and does not put its own in the
    place.

    Args:
        dataset: What is sampled; only its length is used.
        batch_size: Samples per rank and step.
        steps_per_epoch: Steps of a training epoch; ``None`` for evaluation, in order.
        seed: Seed of the order.
        num_replicas: Number of ranks.
        rank: This process.

    Attributes:
        position: Gives the epoch and the step in it at which a pass begins; asked at the beginning
            of each. ``None``: the epoch that was set, from its first step.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        batch_size: int,
        steps_per_epoch: int | None = None,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(
            dataset,
            num_replicas=num_replicas,
            rank=rank,
            shuffle=steps_per_epoch is not None,
            seed=seed,
        )
        self.size = len(cast("Sequence[Any]", dataset))
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.position: Callable[[], tuple[int, int]] | None = None

    def __len__(self) -> int:
        if self.steps_per_epoch is not None:
            return self.steps_per_epoch * self.batch_size
        return len(range(self.rank, self.size, self.num_replicas))

    def __iter__(self) -> Iterator[int]:
        if self.steps_per_epoch is None:
            yield from range(self.rank, self.size, self.num_replicas)
            return
        step = 0
        if self.position is not None:
            self.epoch, step = self.position()
        start = step * self.batch_size
        yield from self.order()[self.rank :: self.num_replicas][start:].tolist()

    def order(self) -> Tensor:
        """All ranks' positions of this training epoch, ``(steps * batch * ranks,)`` int64."""
        wanted = len(self) * self.num_replicas
        passes = []
        for number in range(-(-wanted // self.size)):
            generator = torch.Generator()
            generator.manual_seed(mixed_seed("order", self.seed, self.epoch, number))
            passes.append(torch.randperm(self.size, generator=generator))
        return torch.cat(passes)[:wanted]


def even_batch_size(size: int, world: int, batch_size: int) -> int:
    """Evaluation batch size near the one asked for that gives every process as many batches.

    Processes hold one image more or less of an uneven split, never a repeated one; with equal
    numbers of batches none waits for another for ever.

    Raises:
        DataError: If there are fewer images than processes.
    """
    most, least = math.ceil(size / world), size // world
    if least == 0:
        raise DataError(f"{size} images cannot be evaluated by {world} processes; use fewer.")
    wanted = min(batch_size, most)
    nearest: list[int] = [*range(wanted, wanted // 2, -1), *range(wanted + 1, most + 1)]
    return next(b for b in nearest if math.ceil(most / b) == math.ceil(least / b))
