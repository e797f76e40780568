"""Random numbers of shifted images: a function of (seed, shift, split, image)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class ImageDraws:
    """A random stream per image, so that an image looks the same in every batch.

    Args:
        seeds: Seed of each image.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._streams = [torch.Generator().manual_seed(seed) for seed in seeds]

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Return numbers from `low` to `high`, ``(N, *shape)`` float32."""
        drawn = torch.stack([torch.rand(shape, generator=each) for each in self._streams])
        return low + (high - low) * drawn

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers, ``(N, *shape)`` float32."""
        return torch.stack([torch.randn(shape, generator=each) for each in self._streams])

    def poisson(self, rates: Tensor) -> Tensor:
        """Return Poisson counts for rates ``(N, ...)``."""
        pairs = zip(rates.cpu(), self._streams, strict=True)
        return torch.stack([torch.poisson(rate, generator=each) for rate, each in pairs])
