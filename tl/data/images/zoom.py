"""Random scale and crop: images enlarged, and what lies on their pixels with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tl.data.images.augment import MILLION, PLACES, Augment


class Zoom(NamedTuple):
    """Windows of a batch that are enlarged to the whole image.

    The published codes sample images with their corners aligned and labels by rounding down, which
    lie up to a pixel apart. Here both are sampled at the same places.

    Attributes:
        scale: How many times each image is enlarged ``(N,)``.
        top: First line of its window ``(N,)``, in pixels and parts of them.
        left: First column, likewise.
    """

    scale: Tensor
    top: Tensor
    left: Tensor

    def places(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return where the centres of pixels lie: lines ``(N, H)`` and columns ``(N, W)``.

        Pixel ``i`` of the image covers ``i`` to ``i + 1``.
        """
        lines, columns = (
            first[:, None] + (torch.arange(size, device=first.device) + 0.5) / self.scale[:, None]
            for first, size in ((self.top, height), (self.left, width))
        )
        return lines, columns

    def images(self, images: Tensor) -> Tensor:
        """Enlarge images ``(N, C, H, W)``, floats, bilinearly; a scale of 1 leaves them alone."""
        height, width = images.shape[-2:]
        lines, columns = self.places(height, width)
        grid = images.new_empty(len(images), height, width, 2)
        grid[..., 0] = (columns * (2 / width) - 1)[:, None]
        grid[..., 1] = (lines * (2 / height) - 1)[:, :, None]
        found = functional.grid_sample(
            images, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        found = torch.where((self.scale == 1).view(-1, 1, 1, 1), images, found)
        return found.contiguous(memory_format=torch.channels_last)

    def targets(self, target: Tensor, enlarged: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Enlarge what lies on pixels by the nearest one: classes and edges are not mixed.

        Args:
            target: ``(N, H, W)`` or ``(N, C, H, W)`` of any type.
            enlarged: Gives the values in an enlarged image; see :meth:`tl.tasks.Task.enlarged`.
        """
        height, width = target.shape[-2:]
        lines, columns = self.places(height, width)
        found = gathered(
            target, lines.long().clamp(0, height - 1), columns.long().clamp(0, width - 1)
        )
        return enlarged(found, self.scale.view(-1, *[1] * (target.ndim - 1)))


def zoom_of(settings: Augment, draws: Tensor | None, height: int, width: int) -> Zoom | None:
    """Return the windows of a batch, or ``None`` where images keep their size.

    Args:
        settings: The augmentation.
        draws: Random numbers ``(8, N)`` of :func:`tl.data.images.augment.draw`; ``None`` for
            evaluation.
        height: Of the images.
        width: Of the images.
    """
    if draws is None or not settings.scales:
        return None
    scale = draws[5] / MILLION
    top, left = (
        draws[row] / (PLACES - 1) * (size - size / scale) for row, size in ((6, height), (7, width))
    )
    return Zoom(scale, top, left)


def gathered(target: Tensor, lines: Tensor, columns: Tensor) -> Tensor:
    """Take pixels of maps by line and column.

    Args:
        target: ``(N, H, W)`` or ``(N, C, H, W)`` of any type.
        lines: Which lines of each ``(N, H)``.
        columns: Which columns ``(N, W)``.
    """
    height, width = target.shape[-2:]
    places = (lines * width)[:, :, None] + columns[:, None]
    flat = target.reshape(len(target), -1, height * width)
    index = places.view(len(target), 1, -1).expand(-1, flat.shape[1], -1)
    return flat.gather(2, index).view_as(target)
