"""Colours of classes, numbers and directions, for figures and for maps that are written."""

from __future__ import annotations

import torch
from torch import Tensor

_COLOURS = 256  # that a palette image can tell apart
_MISSING = 0.5  # grey


def palette(count: int) -> Tensor:
    """Return a colour for each class ``(count, 3)`` uint8: the palette of PASCAL VOC.

    The bits of a class number are dealt out to red, green and blue, the lowest ones first, each to
    the highest bit that is free (Everingham et al., 2010); the first class is black.

    Args:
        count: How many classes, at most 256.

    Raises:
        ValueError: If there are more.
    """
    if not 0 < count <= _COLOURS:
        raise ValueError(f"A palette has 1 to {_COLOURS} colours, not {count}.")
    left, colours = torch.arange(count), torch.zeros(count, 3, dtype=torch.int64)
    for bit in range(7, -1, -1):
        for channel in range(3):
            colours[:, channel] |= (left >> channel & 1) << bit
        left = left >> 3
    return colours.to(torch.uint8)


def class_colours(classes: Tensor, count: int) -> Tensor:
    """Return the colours ``(..., 3)`` in [0, 1] of class numbers, grey where there is none."""
    many = classes % _COLOURS if count > _COLOURS else classes
    found = palette(min(count, _COLOURS))[many.clamp(min=0).long()].float() / 255
    return torch.where((classes >= 0).unsqueeze(-1), found, _MISSING)


def direction_colours(vectors: Tensor) -> Tensor:
    """Return unit vectors ``(N, 3, H, W)`` as colours ``(N, H, W, 3)``: -1 to 1 becomes 0 to 1."""
    return ((vectors.movedim(1, -1) + 1) / 2).nan_to_num(_MISSING).clamp(0, 1)
