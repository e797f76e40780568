"""The samples of a split as they are before any network reads them, with their targets."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from tl.batch import Inputs, on_each, size_of
from tl.data.errors import DataError
from tl.data.folder import FolderDataModule
from tl.data.images.decoding import Size, sides
from tl.data.images.resident import ImageDataset
from tl.data.loaders import mixed_order
from tl.data.tensor_set import TensorSet
from tl.data.text.text_set import TextSet
from tl.tasks import Task

T = TypeVar("T")
_CHUNK = 512  # samples


class Samples(ABC):
    """Samples with targets, read by each network in its own way.

    Args:
        count: Number of samples ``N``.
        targets: Targets by task, as :meth:`tl.tasks.Task.truth` returns them.
        tasks: The tasks.

    Attributes:
        modality: ``images``, ``texts`` or ``tensors``.
    """

    modality: str

    def __init__(self, count: int, targets: Mapping[str, Tensor], tasks: Sequence[Task]) -> None:
        self.count = count
        self.targets = dict(targets)
        self.tasks = {task.name: task for task in tasks if task.name in targets}

    def __len__(self) -> int:
        return self.count

    @abstractmethod
    def items(self, positions: Tensor) -> list[Any]:
        """Return samples by position ``(B,)``, as a reader takes them."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of the inputs in their order; targets do not change features."""


class ImageSamples(Samples):
    """Images as ``(3, H, W)`` uint8.

    Args:
        data: The images with their targets.
        tasks: The tasks.
    """

    modality = "images"

    def __init__(self, data: ImageDataset, tasks: Sequence[Task]) -> None:
        super().__init__(len(data), settled_targets(data.targets, tasks), tasks)
        self.data = data

    def items(self, positions: Tensor) -> list[Any]:
        """Return images."""
        return [*self.data.pixels(self.data.index[positions]).permute(0, 3, 1, 2)]

    @cached_property
    def fingerprint(self) -> str:
        """Hash the pixels."""
        digest = hashlib.sha256()
        for part in torch.split(torch.arange(len(self)), 512):
            pixels = self.data.pixels(self.data.index[part]).contiguous()
            digest.update(f"{tuple(pixels.shape)}".encode())
            digest.update(pixels.numpy().data)
        return digest.hexdigest()


class TextSamples(Samples):
    """Texts.

    Args:
        texts: The texts.
        targets: Their targets by the tasks' `target`.
        tasks: The tasks.
    """

    modality = "texts"

    def __init__(
        self, texts: Sequence[str], targets: Mapping[str, Tensor], tasks: Sequence[Task]
    ) -> None:
        super().__init__(len(texts), settled_targets(targets, tasks), tasks)
        self.texts = list(texts)

    def items(self, positions: Tensor) -> list[Any]:
        """Return texts."""
        return [self.texts[row] for row in positions.tolist()]

    @cached_property
    def fingerprint(self) -> str:
        """Hash the texts."""
        return hashlib.sha256(repr(self.texts).encode()).hexdigest()


class TensorSamples(Samples):
    """Tensors, or dicts of them, as they were given.

    Args:
        inputs: A tensor or a dict of them.
        targets: Their targets by the tasks' `target`.
        tasks: The tasks.
    """

    modality = "tensors"

    def __init__(
        self, inputs: Inputs, targets: Mapping[str, Tensor], tasks: Sequence[Task]
    ) -> None:
        super().__init__(size_of(inputs), settled_targets(targets, tasks), tasks)
        self.inputs = inputs

    def items(self, positions: Tensor) -> list[Any]:
        """Return tensors, or dicts of them."""
        if isinstance(self.inputs, Mapping):
            return [{n: part[row] for n, part in self.inputs.items()} for row in positions.tolist()]
        return [*self.inputs[positions]]

    @cached_property
    def fingerprint(self) -> str:
        """Hash the values."""
        digest = hashlib.sha256()
        parts = self.inputs if isinstance(self.inputs, Mapping) else {"": self.inputs}
        for name, part in sorted(parts.items()):
            digest.update(f"{name} {part.dtype} {tuple(part.shape)}".encode())
            digest.update(part.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


def samples_of(
    data: Any,  # noqa: ANN401 - any data module
    split: str = "train",
    most: int | None = None,
    task: str | None = None,
) -> Samples:
    """Return the samples of a split of a data module that was set up.

    Args:
        data: A data module of one source.
        split: ``train``, ``val`` or ``test``; training samples come without augmentation.
        most: Take this many, the classes in proportion; ``None`` takes all.
        task: Take those with a label of this task; by default of the first.

    Raises:
        DataError: If the data module is not one of ours, or the split is missing or empty.
    """
    part = getattr(data, "splits", {}).get(split)
    if part is None or not len(part):
        raise DataError(
            f"{type(data).__name__} has no samples in the split {split!r}; expected a data module "
            "of tl.data with one source, such as CifarDataModule."
        )
    tasks = tuple(data.tasks)
    chosen = [each for each in tasks if task in (None, each.name)]
    if isinstance(part, ImageDataset):
        kept = _subset(part.targets, chosen, len(part), most)
        return ImageSamples(part.subset(kept), tasks)
    if isinstance(part, TextSet):
        if part.types:
            raise DataError("Pairs of texts are not compared; give single texts (no `pair`).")
        some = part.subset(_subset(part.targets, chosen, len(part), most))
        texts = [some.name(row) for row in range(len(some))]
        return TextSamples(texts, some.targets, tasks)
    if isinstance(part, TensorSet) and part.targets is not None:
        given = part.targets if isinstance(part.targets, Mapping) else {"": part.targets}
        within = {name: each[part.rows] for name, each in given.items()}
        rows = part.rows[_subset(within, chosen, len(part), most)]
        inputs = on_each(lambda each: each[rows], part.inputs)
        return TensorSamples(inputs, {name: each[rows] for name, each in given.items()}, tasks)
    raise DataError(f"The split {split!r} of {type(data).__name__} has no targets to compare with.")


def by_size(data: Any, make: Callable[[], T]) -> Callable[[Size | None], T]:  # noqa: ANN401
    """Return what gives something made of a data module at an image size, each size made once.

    Images in folders are decoded at the size, at the longer side of two different ones, and at that
    of the configuration without one; others are resized when they are read.

    Args:
        data: The data module.
        make: Makes it from the data as they are now.
    """
    usual = data.size if isinstance(data, FolderDataModule) else None
    found: dict[int | None, T] = {}

    def at(size: Size | None) -> T:
        key = usual if usual is None or size is None else max(sides(size))
        if key not in found:
            if key is not None and key != data.size:
                data.size = key
                data.prepare_data()
                data.setup("fit")
            found[key] = make()
        return found[key]

    return at


def _subset(
    targets: Mapping[str, Tensor], tasks: Sequence[Task], count: int, most: int | None
) -> Tensor:
    """Return positions of labelled samples ``(M,)``, ascending, with the classes in proportion.

    The first task that has targets counts. If no sample is labelled, any are taken.
    """
    if most is None or most >= count:
        return torch.arange(count)
    found, classes = [], False
    for rows in torch.split(torch.arange(count), _CHUNK):  # maps of all samples may fill the memory
        part = {name: each[rows] for name, each in targets.items()}
        given = next(iter(settled_targets(part, tasks).values()), None)
        if given is None:
            return torch.arange(most)  # without a task there is nothing to draw by
        classes = given.ndim == 1
        missing = unknown(given).reshape(len(given), -1).all(1)
        found.append(given if classes else -missing.long())
    labels = torch.cat(found)
    kept = (labels >= 0).nonzero().flatten() if bool((labels >= 0).any()) else torch.arange(count)
    order = mixed_order([labels[kept]] if classes else [], len(kept))
    return kept[order[:most]].sort().values


def unknown(targets: Tensor) -> Tensor:
    """Return which values of settled targets are unknown."""
    return targets.isnan() if targets.is_floating_point() else targets < 0


def settled_targets(targets: Mapping[str, Tensor], tasks: Sequence[Task]) -> dict[str, Tensor]:
    """Return settled targets by task; tasks on tokens have none of their own."""
    found = {}
    only = next(iter(targets.values())) if len(targets) == 1 else None
    for task in tasks:
        given = only if task.target is None else targets.get(task.target, only)
        if given is not None and task.reads != "tokens":
            found[task.name] = task.truth(task.settle(given))
    return found
