"""Samples to batches: a resumable order, and each evaluation sample exactly once."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    SequentialSampler,
    get_worker_info,
)

from tl.counting import counted
from tl.data.errors import DataError
from tl.data.images.resident import Batch, mixed_seed
from tl.data.images.store import StoredDataset
from tl.data.sampling import balanced_order

_BESIDES = 2**20  # bytes of shared memory, for locks and labels


def as_batch(batch: Batch | list[Any]) -> Batch:
    """Collate function for data sets that return whole batches.

    A worker moves them to shared memory here, so that a lack of space reaches the loader; an error
    in the sending thread would make it hang.
    """
    if get_worker_info() is not None:
        images, targets = batch
        labels = targets.values() if isinstance(targets, dict) else [targets]
        for tensor in (images, *labels):
            tensor.share_memory_()
    return cast("Batch", batch)


def check_shared_memory(needed: int, shared: Path = Path("/dev/shm")) -> None:  # noqa: S108
    """Check that workers have enough shared memory for their batches.

    Args:
        needed: Bytes waiting to be consumed at a time.
        shared: Folder of the shared memory.

    Raises:
        DataError: If there is no shared memory, or too little.
    """
    if sys.platform != "linux":
        return
    what = f"{shared} is not writable"
    if os.access(shared, os.W_OK):
        free = shutil.disk_usage(shared).free
        if needed <= free:
            return
        what = f"their batches take {needed / 1e6:,.1f} MB, and {shared} has {free / 1e6:,.1f} free"
    raise DataError(
        f"Workers need shared memory: {what}. Set `num_workers: 0`, use fewer workers or a "
        "smaller `batch_size`, or enlarge it (`docker run --shm-size`)."
    )


class LazyLoader(DataLoader[Batch]):
    """A loader whose workers start with the first requested batch.

    Lightning creates the iterator of a resumed run before it knows where the run stopped, so that
    workers would already prepare batches of the first epoch.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch's class is narrower
        """Yield the batches."""
        yield from super().__iter__()


def make_loader(data: Dataset[Any], sampler: EpochSampler, num_workers: int) -> DataLoader[Any]:
    """Build a loader in the sampler's order, in this process or with workers.

    Raises:
        DataError: If shared memory is too small for the workers' batches.
    """
    if num_workers and len(sampler):
        image, targets = data[torch.tensor([0])]
        labels = targets.values() if isinstance(targets, dict) else [targets]
        on_pixels = sum(each.nbytes for each in labels if each.ndim > 1)
        waiting = min(len(sampler), 2 * num_workers)  # the number that a loader prefetches
        check_shared_memory(waiting * sampler.batch_size * (image.nbytes + on_pixels) + _BESIDES)
    return LazyLoader(
        data,
        batch_size=None,  # the sampler yields whole batches, as tensors
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=as_batch,
        pin_memory=torch.cuda.is_available() and not isinstance(data, StoredDataset),
        persistent_workers=num_workers > 0,
    )


class EpochSampler(DistributedSampler[Any]):
    """The order of an epoch as a pure function of (seed, epoch), divided among ranks unpadded.

    For training, an endless sequence of permutations (each seeded by seed, epoch and its number) is
    cut to `steps_per_epoch` batches: a short data set is recycled in a new order each time. For
    evaluation each index occurs exactly once over all ranks. Lightning recognises a
    `DistributedSampler`, calls `set_epoch` and does not replace it. Yields whole batches as tensors
    of positions, because a list of numbers takes longer to create than a batch.

    Args:
        dataset: The data set; only its length is used.
        batch_size: Samples per rank and step.
        steps_per_epoch: Steps of a training epoch; ``None`` for evaluation, in order.
        seed: Seed of the order.
        num_replicas: Number of ranks.
        rank: Rank of this process.
        device: Device of the positions.
        sequence: Evaluation order, positions ``(N,)``; ascending by default.
        balanced: Classes ``(N,)`` that come equally often in training, see
            :func:`tl.data.sampling.balanced_order`; by default every sample comes equally often.

    Attributes:
        position: Returns the epoch and step at which a pass starts; called at its start. ``None``:
            the epoch set by `set_epoch`, from its first step.
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
        device: torch.device | None = None,
        sequence: Tensor | None = None,
        balanced: Tensor | None = None,
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
        self.device = device
        self.sequence = sequence
        self.balanced = balanced
        self.position: Callable[[], tuple[int, int]] | None = None

    def __len__(self) -> int:
        """Number of batches."""
        if self.steps_per_epoch is not None:
            return self.steps_per_epoch
        return math.ceil(len(range(self.rank, self.size, self.num_replicas)) / self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the positions of each batch ``(batch_size,)`` int64; the last may be shorter."""
        step = 0
        if self.position is not None:
            self.epoch, step = self.position()
        in_order = torch.arange(self.size) if self.sequence is None else self.sequence
        whole = in_order if self.steps_per_epoch is None else self.order()
        order = whole[self.rank :: self.num_replicas]
        # all at once, so that a step on a GPU moves nothing
        order = order[step * self.batch_size :].to(self.device)
        yield from torch.split(order, self.batch_size)

    def order(self) -> Tensor:
        """Return all ranks' positions of the epoch, ``(steps * batch * ranks,)`` int64."""
        wanted = len(self) * self.batch_size * self.num_replicas
        if self.balanced is not None:
            drawn = torch.Generator()
            drawn.manual_seed(mixed_seed("balanced", self.seed, self.epoch))
            return balanced_order(self.balanced, wanted, drawn)
        passes = []
        for number in range(-(-wanted // self.size)):
            generator = torch.Generator()
            generator.manual_seed(mixed_seed("order", self.seed, self.epoch, number))
            passes.append(torch.randperm(self.size, generator=generator))
        return torch.cat(passes)[:wanted]


def is_cut(trainer: Trainer | None, split: str) -> bool:
    """Return whether only a part of a split is read, which should then cover all classes."""
    if trainer is None or split == "predict":
        return False
    limit: Any = getattr(trainer, f"limit_{split}_batches", 1.0)
    cut = limit < 1.0 if isinstance(limit, float) else True
    return cut or bool(trainer.overfit_batches)  # type: ignore[attr-defined]


def random_order(trainer: Trainer | None, split: str, size: int) -> Tensor | None:
    """Return a random order, always the same, where something adapts to batches of a test.

    Args:
        trainer: The Trainer; callbacks that adapt have ``reads_in_random_order``.
        split: The split.
        size: Number of samples ``N``.

    Returns:
        Positions ``(N,)`` int64; ``None`` for the order of the data.
    """
    callbacks = getattr(trainer, "callbacks", ()) if split == "test" else ()
    if not any(getattr(each, "reads_in_random_order", False) for each in callbacks):
        return None
    return torch.randperm(size, generator=torch.Generator().manual_seed(0))


def position_of(trainer: Trainer) -> tuple[int, int]:
    """Return the epoch and step at which a pass over the training samples starts.

    Call it when the pass starts: the loader may be created before the progress of a resumed run is
    known. Such a run continues at the step after its last one.
    """
    loop: Any = trainer.fit_loop  # Lightning's type is too narrow
    done = loop.epoch_loop.batch_progress.current.processed
    return loop.epoch_progress.current.processed, done if done < loop.max_batches else 0


class InOrderSampler(EpochSampler, SequentialSampler):  # type: ignore[misc]  # batches, not numbers
    """Each sample once, in order: for evaluation, and for `overfit_batches`.

    With `overfit_batches` Lightning replaces any other sampler by its own kind, which would request
    one sample at a time.
    """


def class_by_class(labels: Tensor) -> Tensor:
    """Return an order whose every prefix holds the classes in proportion, as closely as possible.

    The ``i``-th of a class's ``n`` samples is placed at the fraction ``(i + 1/2) / n``.

    Args:
        labels: ``(N,)`` int64.

    Returns:
        Positions ``(N,)`` int64.
    """
    share = torch.empty(len(labels), dtype=torch.float64)
    for label in torch.unique(labels):
        members = (labels == label).nonzero().flatten()
        share[members] = (torch.arange(len(members), dtype=torch.float64) + 0.5) / len(members)
    return share.argsort(stable=True)


def mixed_order(targets: Iterable[Tensor | None], size: int) -> Tensor:
    """Return an order whose every prefix is a fair sample of the whole.

    The first target of class numbers keeps its classes in proportion; without one, the order is
    random and always the same.

    Args:
        targets: Targets of the samples.
        size: Number of samples ``N``.

    Returns:
        Positions ``(N,)`` int64.
    """
    for target in targets:
        if target is not None and target.ndim == 1 and not target.is_floating_point():
            return class_by_class(target)
    return torch.randperm(size, generator=torch.Generator().manual_seed(0))


def even_batch_size(size: int, world: int, batch_size: int) -> int:
    """Return a batch size near `batch_size` that gives every process the same number of batches.

    With an uneven split, processes differ by one sample, and none is repeated; with equal numbers
    of batches no process hangs.

    Raises:
        DataError: If there are fewer images than processes.
    """
    most, least = math.ceil(size / world), size // world
    if least == 0:
        raise DataError(
            f"{counted(size, 'image')} cannot be divided among {world} processes; use fewer "
            "processes."
        )
    wanted = min(batch_size, most)
    nearest: list[int] = [*range(wanted, wanted // 2, -1), *range(wanted + 1, most + 1)]
    return next(b for b in nearest if math.ceil(most / b) == math.ceil(least / b))
