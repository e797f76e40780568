"""Data sets whose images are shifted."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Self

from torch import Tensor

from tl.data.images.resident import Batch, ImageDataset, ResidentDataset
from tl.data.shifts.shift import Shift


def shifted(data: ImageDataset, shift: Shift, split: str) -> ImageDataset:
    """Return the same samples with shifted images.

    Images in memory are shifted at once, others as they are read.

    Args:
        data: Images, not shifted.
        shift: The shift.
        split: Name of the split, part of the random numbers' seeds.
    """
    if isinstance(data, ResidentDataset):
        return ShiftedImages(data, shift, split)
    return ShiftedStream(data, shift, split)


def unshifted(data: ImageDataset) -> ImageDataset:
    """Return the same samples with images as they were before a shift."""
    return data.clean() if isinstance(data, ShiftedImages | ShiftedStream) else data


class ShiftedImages(ResidentDataset):
    """Shifted images in memory.

    Args:
        data: The images, not shifted.
        shift: The shift.
        split: Name of their split.
    """

    def __init__(self, data: ResidentDataset, shift: Shift, split: str) -> None:
        images = shift(data.images, range(len(data.images)), split)
        super().__init__(images, data.all_targets, data.all_names)
        self.index = data.index
        self._data = data

    def clean(self) -> ImageDataset:
        """Return the same samples without the shift."""
        same = copy.copy(self._data)
        same.index, same.all_targets = self.index, self.all_targets
        return same

    def digest(self) -> str:
        """Hash of the samples without the shift, which the fingerprint names beside it."""
        return self.clean().digest()


class ShiftedStream(ImageDataset):
    """Images that are shifted as they are read.

    Args:
        data: The images, not shifted.
        shift: The shift.
        split: Name of their split.
    """

    def __init__(self, data: ImageDataset, shift: Shift, split: str) -> None:
        super().__init__(len(data), data.all_targets, data.all_names)
        self.index = data.index
        self._data, self._shift, self._split = data, shift, split

    def subset(self, index: Tensor) -> Self:
        """Return the images at these positions ``(M,)``."""
        return type(self)(self._data.subset(index), self._shift, self._split)

    def only(self, targets: Iterable[str]) -> Self:
        """Return the same images with these targets alone."""
        return type(self)(self._data.only(targets), self._shift, self._split)

    def unlabelled(self) -> Self:
        """Return the same images with their positions in the place of targets."""
        return type(self)(self._data.unlabelled(), self._shift, self._split)

    def pixels(self, rows: Tensor) -> Tensor:
        """Return shifted images by row: ``(B, H, W, 3)`` uint8."""
        return self._shift(self._data.pixels(rows), rows.tolist(), self._split)

    def __getitem__(self, positions: int | Tensor) -> Batch:
        """Cut one image or a batch as the data do, and shift its images."""
        images, targets = self._data[positions]
        several = images if images.ndim > 3 else images[None]  # noqa: PLR2004 - (C, H, W)
        rows = self.index[positions].reshape(-1).tolist()
        moved = self._shift(several.permute(0, 2, 3, 1), rows, self._split).permute(0, 3, 1, 2)
        return (moved if several is images else moved[0]), targets

    def clean(self) -> ImageDataset:
        """Return the same samples without the shift."""
        return self._data

    def digest(self) -> str:
        """Hash of the samples without the shift, which the fingerprint names beside it."""
        return self._data.digest()
