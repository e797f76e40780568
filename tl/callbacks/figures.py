"""Grids of images."""

from __future__ import annotations

from torch import Tensor
from torchvision.utils import make_grid


def image_grid(images: Tensor, columns: int = 8) -> Tensor:
    """Lay images ``(N, 3, H, W)`` in [0, 1] out as one picture; enlarge small ones."""
    scale = max(1, 64 // images.shape[-1])
    large = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    grid: Tensor = make_grid(large, nrow=columns, padding=2, pad_value=1.0)
    return grid
