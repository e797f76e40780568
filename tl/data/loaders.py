"""Images to batches: an order that can be resumed, and each evaluation image exactly once."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
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

from tl.data.errors import DataError
from tl.data.images.resident import Batch, mixed_seed
from tl.data.images.store import StoredDataset

_BESIDES = 2**20  # bytes of shared memory for locks and labels


def as_batch(batch: Batch | list[Any]) -> Batch:
    """Collate function for data sets that cut whole batches themselves.

    A worker puts them into shared memory here: without room there the loader hears of it, whereas
    an error in the thread that sends them would leave it waiting for ever.
    """
    images, targets = batch
    if get_worker_info() is not None:
        labels = targets.values() if isinstance(targets, dict) else [targets]
        for tensor in (images, *labels):
            tensor.share_memory_()
    return cast("Batch", batch)


def check_shared_memory(needed: int, shared: Path = Path("/dev/shm")) -> None:  # noqa: S108
    """See that workers can hand over their batches.

    Args:
        needed: Bytes that wait to be used at a time.
        shared: Where shared memory lies.

    Raises:
        DataError: If there is none, or too little.
    """
    if sys.platform != "linux":
        return
    what = f"there is no {shared} to write to"
    if os.access(shared, os.W_OK):
        free = shutil.disk_usage(shared).free
        if needed <= free:
            return
        what = f"their batches take {needed / 1e6:,.1f} MB, and {shared} has {free / 1e6:,.1f} free"
    raise DataError(
        f"Workers need shared memory: {what}. Set `num_workers: 0`, or fewer of them or a smaller "
        "`batch_size`, or make it larger (`docker run --shm-size`)."
    )


class LazyLoader(DataLoader[Batch]):
    """A loader whose workers begin with the first batch that is asked for, not before.

    Lightning makes the iterator of a run that resumes before it knows where the run stopped, and
    workers would already be at work on batches of the first epoch.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch's class is narrower
        """Yield the batches."""
        yield from super().__iter__()


def make_loader(data: Dataset[Any], sampler: EpochSampler, num_workers: int) -> DataLoader[Any]:
    """Cut batches in the sampler's order, in this process or by workers.

    Raises:
        DataError: If shared memory has no room for what workers hand over.
    """
    if num_workers and len(sampler):
        image, targets = data[torch.tensor([0])]
        labels = targets.values() if isinstance(targets, dict) else [targets]
        on_pixels = sum(each.nbytes for each in labels if each.ndim > 1)
        waiting = min(len(sampler), 2 * num_workers)  # as many as a loader has made ahead
        check_shared_memory(waiting * sampler.batch_size * (image.nbytes + on_pixels) + _BESIDES)
    return LazyLoader(
        data,
        batch_size=None,  # the sampler gives whole batches, as tensors
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=as_batch,
        pin_memory=torch.cuda.is_available() and not isinstance(data, StoredDataset),
        persistent_workers=num_workers > 0,
    )


class EpochSampler(DistributedSampler[Any]):
    """The order of one epoch as a pure function of (seed, epoch), cut into ranks without padding.

    For training, an endless sequence of permutations (each one seeded by seed, epoch and its
    number) is cut to `steps_per_epoch` batches: a short data set is recycled in a new order
    every time. For evaluation each index comes exactly once over all ranks; none is repeated.
    Lightning recognises a `DistributedSampler`, calls `set_epoch` and does not put its own in the
    place. It gives whole batches, as tensors of positions: a list of numbers costs more to make
    than a batch to cut.

    Args:
        dataset: What is sampled; only its length is used.
        batch_size: Samples per rank and step.
        steps_per_epoch: Steps of a training epoch; ``None`` for evaluation, in order.
        seed: Seed of the order.
        num_replicas: Number of ranks.
        rank: This process.
        device: Where the positions are to lie.
        sequence: Order of evaluation, positions ``(N,)``; ascending by default.

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
        device: torch.device | None = None,
        sequence: Tensor | None = None,
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
        # all at once: on a GPU nothing is left to be moved in a step
        order = order[step * self.batch_size :].to(self.device)
        yield from torch.split(order, self.batch_size)

    def order(self) -> Tensor:
        """All ranks' positions of this training epoch, ``(steps * batch * ranks,)`` int64."""
        wanted = len(self) * self.batch_size * self.num_replicas
        passes = []
        for number in range(-(-wanted // self.size)):
            generator = torch.Generator()
            generator.manual_seed(mixed_seed("order", self.seed, self.epoch, number))
            passes.append(torch.randperm(self.size, generator=generator))
        return torch.cat(passes)[:wanted]


def is_cut(trainer: Trainer | None, split: str) -> bool:
    """Return whether only a part of a split is read, which is then to be of all classes."""
    if trainer is None or split == "predict":
        return False
    limit: Any = getattr(trainer, f"limit_{split}_batches", 1.0)
    cut = limit < 1.0 if isinstance(limit, float) else True
    return cut or bool(trainer.overfit_batches)  # type: ignore[attr-defined]


def position_of(trainer: Trainer) -> tuple[int, int]:
    """Return the epoch, and the step in it, at which a pass over the training samples begins.

    To be asked when the pass begins: the loader may be made before the progress of a resumed run is
    known. Such a run goes on at the step after its last one.

    Args:
        trainer: The Trainer.
    """
    loop: Any = trainer.fit_loop  # its progress is typed too narrowly
    done = loop.epoch_loop.batch_progress.current.processed
    return loop.epoch_progress.current.processed, done if done < loop.max_batches else 0


class InOrderSampler(EpochSampler, SequentialSampler):  # type: ignore[misc]  # batches, not numbers
    """Each image once, in order: for evaluation, and for `overfit_batches`.

    That makes Lightning put a `SequentialSampler` in the place of any other kind, and it would ask
    for one image at a time.
    """


def class_by_class(labels: Tensor) -> Tensor:
    """Return an order of which every beginning holds each class in proportion, as near as can be.

    The ``i``-th of a class's ``n`` samples comes at the share ``(i + 1/2) / n`` of the way.

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
