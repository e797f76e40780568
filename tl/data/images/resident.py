"""Images as one uint8 tensor, cut into batches by index."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

_PIXELS = 2**20  # at once: 1,024 images of 32x32
Targets = Tensor | dict[str, Tensor]
Batch = tuple[Tensor, Targets]


def mixed_seed(*parts: int | str) -> int:
    """Hash integers and names into one well-mixed 63-bit seed.

    Neighbouring seeds, epochs and steps give unrelated streams, which plain sums of them do not.
    """
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class ImageDataset(Dataset[Batch], ABC):
    """Labelled images that are cut into batches by index.

    Args:
        size: Number of images ``N``.
        targets: Labels by name, each ``(N,)`` int64.
        names: Where each image comes from (a path), or ``None``: its index names it.
        keys: What tells each image from those of other data sets: a hash of its file's content, or
            its path. Images without keys are told apart by their pixels.
    """

    def __init__(
        self,
        size: int,
        targets: Mapping[str, Tensor],
        names: Sequence[str] | None = None,
        keys: Sequence[bytes] = (),
    ) -> None:
        self.all_targets = dict(targets)
        self.all_names = names
        self.all_keys = keys
        self.index = torch.arange(size)

    @abstractmethod
    def pixels(self, rows: Tensor) -> Tensor:
        """Return images by row: ``(B, H, W, 3)`` uint8."""

    @abstractmethod
    def digest(self) -> str:
        """Return a hash of the content of this data set, in order."""

    def __len__(self) -> int:
        return len(self.index)

    def subset(self, index: Tensor) -> Self:
        """Return the images at these positions ``(M,)``; the pixels are shared, not copied."""
        part = copy.copy(self)
        part.index = self.index[index]
        return part

    def only(self, targets: Iterable[str]) -> Self:
        """Return the same images with these labels only."""
        same = copy.copy(self)
        same.all_targets = {name: self.all_targets[name] for name in targets}
        return same

    def unlabelled(self) -> Self:
        """Return the same images with positions instead of labels."""
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
        """Path of an image, or its index if it has none."""
        row = int(self.index[position])
        return self.all_names[row] if self.all_names else str(row)

    def image_keys(self) -> list[bytes]:
        """Return what tells each image of this data set from those of others."""
        if self.all_keys:
            return [self.all_keys[row] for row in self.index.tolist()]
        return [
            hashlib.blake2b(image, digest_size=16).digest()
            for part in self._in_parts(self.index)
            for image in self.pixels(part).contiguous().numpy()
        ]

    def statistics(self, most: int | None = None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation per channel, in pixel values: two ``(3,)`` float32.

        Args:
            most: Take about this many images, evenly spaced; ``None`` takes all.
        """
        rows = self.index[:: max(1, len(self) // most)] if most else self.index
        # how often each value occurs: eight times as fast as sums of squares, and as exact
        counts = np.zeros((3, 256), np.int64)
        for part in self._in_parts(rows):
            pixels = self.pixels(part).reshape(-1, 3).numpy()
            counts += [np.bincount(pixels[:, channel], minlength=256) for channel in range(3)]
        occur, values = torch.from_numpy(counts), torch.arange(256)
        total, square = (occur @ values).double(), (occur @ values.square()).double()
        count = int(occur[0].sum())
        mean = total / count
        std = (square / count - mean.square()).clamp_min(1.0).sqrt()
        return mean.float(), std.float()

    def _in_parts(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Split rows into parts whose pixels take little memory, whatever the image size."""
        size = self.pixels(rows[:1])[..., 0].numel()
        return torch.split(rows, max(1, _PIXELS // max(1, size)))

    def __getitem__(self, positions: int | Tensor) -> Batch:
        """Cut one image with its labels by position, or one batch by positions ``(B,)``.

        A batch has images ``(B, 3, H, W)`` uint8, channels-last, and labels ``(B,)``.
        """
        if isinstance(positions, int):
            images, targets = self[torch.tensor([positions])]
            if isinstance(targets, dict):
                return images[0], {name: labels[0] for name, labels in targets.items()}
            return images[0], targets[0]
        rows = self.index[positions]
        targets = {name: labels[rows] for name, labels in self.all_targets.items()}
        return self.pixels(rows).permute(0, 3, 1, 2), single(targets)

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        """Cut one batch for a loader that asks with a list."""
        return self[torch.tensor(positions)]


class ResidentDataset(ImageDataset):
    """Images that live in memory as one tensor.

    Args:
        images: ``(N, H, W, 3)`` uint8.
        targets: Labels by name, each ``(N,)`` int64.
        names: Where each image comes from (a path), or ``None``: its index names it.
        keys: As for `ImageDataset`.
    """

    def __init__(
        self,
        images: Tensor,
        targets: Mapping[str, Tensor],
        names: Sequence[str] | None = None,
        keys: Sequence[bytes] = (),
    ) -> None:
        super().__init__(len(images), targets, names, keys)
        self.images = images

    def pixels(self, rows: Tensor) -> Tensor:
        """Return images by row: ``(B, H, W, 3)`` uint8, one gather."""
        return self.images.index_select(0, rows)

    def digest(self) -> str:
        """SHA-256 over the pixels and labels of this data set, in its order."""
        digest = hashlib.sha256()
        for part in self._in_parts(self.index):
            digest.update(self.pixels(part).numpy().data)
        for name, labels in sorted(self.targets.items()):
            digest.update(name.encode())
            digest.update(labels.numpy().data)
        return digest.hexdigest()


def single(targets: dict[str, Tensor]) -> Targets:
    """Return one set of labels as a tensor, several as a dict."""
    return next(iter(targets.values())) if len(targets) == 1 else targets
