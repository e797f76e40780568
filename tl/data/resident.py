"""Images as one uint8 tensor, cut into batches by index, in an order that can be resumed."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

Targets = Tensor | dict[str, Tensor]
Batch = tuple[Tensor, Targets]


def mixed_seed(*parts: int | str) -> int:
    """Hash integers and names into one well-mixed 63-bit seed.

    Neighbouring seeds, epochs and steps give unrelated streams, which plain sums of them do not.
    """
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class ImageDataset(Dataset[Batch]):
    """Labelled images that are cut into batches by index.

    Args:
        size: Number of images ``N``.
        targets: Labels by name, each ``(N,)`` int64.
        names: Where each image comes from (a path), or ``None``: its index names it.
    """

    def __init__(
        self, size: int, targets: Mapping[str, Tensor], names: Sequence[str] | None = None
    ) -> None:
        self.all_targets = dict(targets)
        self.all_names = names
        self.index = torch.arange(size)

    def pixels(self, rows: Tensor) -> Tensor:
        """Return images by their row among all images: ``(B, H, W, 3)`` uint8."""
        raise NotImplementedError

    def digest(self) -> str:
        """Hash of what this data set holds, in its order."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.index)

    def subset(self, index: Tensor) -> Self:
        """Return the images at these positions ``(M,)``; the pixels are shared, not copied."""
        part = copy.copy(self)
        part.index = self.index[index]
        return part

    def only(self, targets: Iterable[str]) -> Self:
        """Return the same images with these labels alone."""
        same = copy.copy(self)
        same.all_targets = {name: self.all_targets[name] for name in targets}
        return same

    def unlabelled(self) -> Self:
        """Return the same images with their positions in the place of labels."""
        same = copy.copy(self)
        position = torch.zeros(int(self.index.max()) + 1, dtype=torch.int64)
        position[self.index] = torch.arange(len(self))
        same.all_targets = {"index": position}
        return same

    @property
    def targets(self) -> dict[str, Tensor]:
        """Labels of this data set's images by name, each ``(M,)`` int64."""
        return {name: labels[self.index] for name, labels in self.all_targets.items()}

    def name(self, position: int) -> str:
        """Path of an image, or its index where it has none."""
        row = int(self.index[position])
        return self.all_names[row] if self.all_names else str(row)

    def statistics(self, most: int | None = None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation per channel, in pixel values: two ``(3,)`` float32.

        Args:
            most: Take about this many images, evenly spaced; ``None`` takes all.
        """
        rows = self.index[:: max(1, len(self) // most)] if most else self.index
        total, square, count = torch.zeros(3).double(), torch.zeros(3).double(), 0
        for part in torch.split(rows, 1024):
            pixels = self.pixels(part).reshape(-1, 3).double()
            total += pixels.sum(0)
            square += pixels.square().sum(0)
            count += len(pixels)
        mean = total / count
        std = (square / count - mean.square()).clamp_min(1.0).sqrt()
        return mean.float(), std.float()

    def __getitem__(self, position: int) -> Batch:
        images, targets = self.__getitems__([position])
        if isinstance(targets, dict):
            return images[0], {name: labels[0] for name, labels in targets.items()}
        return images[0], targets[0]

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        """Cut one batch: images ``(B, 3, H, W)`` uint8, channels-last, and their labels."""
        rows = self.index[torch.tensor(positions)]
        targets = {name: labels[rows] for name, labels in self.all_targets.items()}
        return self.pixels(rows).permute(0, 3, 1, 2), single(targets)


class ResidentDataset(ImageDataset):
    """Images that live in memory as one tensor.

    Args:
        images: ``(N, H, W, 3)`` uint8.
        targets: Labels by name, each ``(N,)`` int64.
        names: Where each image comes from (a path), or ``None``: its index names it.
    """

    def __init__(
        self, images: Tensor, targets: Mapping[str, Tensor], names: Sequence[str] | None = None
    ) -> None:
        super().__init__(len(images), targets, names)
        self.images = images

    def pixels(self, rows: Tensor) -> Tensor:
        """Return images by row: ``(B, H, W, 3)`` uint8, one gather."""
        return self.images.index_select(0, rows)

    def digest(self) -> str:
        """SHA-256 over the pixels and labels of this data set, in its order."""
        digest = hashlib.sha256()
        for part in torch.split(self.index, 4096):
            digest.update(self.pixels(part).numpy().data)
        for name, labels in sorted(self.targets.items()):
            digest.update(name.encode())
            digest.update(labels.numpy().data)
        return digest.hexdigest()


def single(targets: dict[str, Tensor]) -> Targets:
    """One set of labels as a tensor, several as the dict they are."""
    return next(iter(targets.values())) if len(targets) == 1 else targets


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
