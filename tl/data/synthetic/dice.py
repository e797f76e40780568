"""Random numbers from a counter-based generator, independent for each image."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

GOLDEN = -0x61C8864680B583EB  # between the counters, as int64
_SLOTS = 96  # random numbers per image


def mix(x: Tensor) -> Tensor:
    """Finaliser of splitmix64 (Steele et al., 2014) on int64; the shifts are logical."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -0x40A7B892E31B1A47
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -0x6B2FB644ECCEEE15
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def keys_of(index: Tensor, seed: int, num_classes: int) -> Tensor:
    """Return one int64 key per image; images of equal index share their nuisance across labels."""
    return mix(mix(torch.tensor(seed) + 0x632BE5AB * num_classes) + index)


def uniform(keys: Tensor, counts: int) -> Tensor:
    """Return ``counts`` float32 numbers in [0, 1) per key, shape (N, counts)."""
    counters = torch.arange(1, counts + 1) * GOLDEN
    return ((mix(keys[:, None] + counters) >> 40) & 0xFFFFFF).float() / (1 << 24)


class Dice:
    """Per-image random numbers of shape (N, 1, 1), one slot after the other."""

    def __init__(self, keys: Tensor) -> None:
        self._slots: Iterator[Tensor] = iter(uniform(keys, _SLOTS).T[..., None, None])

    def between(self, low: float | Tensor, high: float | Tensor) -> Tensor:
        """Return a number from ``low`` to ``high``."""
        return low + (high - low) * next(self._slots)

    def chance(self, probability: float) -> Tensor:
        """Return 1 with a probability, else 0."""
        return (next(self._slots) < probability).float()

    def choice(self, words: Sequence[str], table: Sequence[str]) -> Tensor:
        """Return the index in ``table`` of one of ``words``, shape (N,)."""
        picks = (next(self._slots).flatten() * len(words)).long()
        return torch.tensor([table.index(word) for word in words])[picks]
