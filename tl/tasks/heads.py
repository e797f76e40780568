"""Linear heads, and the sizes that a head is built for."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn


def vector_length(num_features: int | Sequence[int]) -> int:
    """Return the length of the vectors or tokens that a head reads.

    Raises:
        TypeError: If it holds the channels of maps.
    """
    if isinstance(num_features, int):
        return num_features
    raise TypeError(
        f"A head on vectors or tokens takes their length, got {num_features!r}; a task whose head "
        'takes maps has `reads = "maps"`.'
    )


def map_channels(num_features: int | Sequence[int]) -> tuple[int, ...]:
    """Return the channels of the maps that a head reads, the lowest resolution last.

    Raises:
        TypeError: If it is the length of a vector.
    """
    if isinstance(num_features, int):
        raise TypeError(
            f"A head on maps takes the channels of each, got {num_features!r}; the task needs "
            '`reads = "maps"`.'
        )
    return tuple(num_features)


def linear_head(num_features: int, num_classes: int) -> nn.Linear:
    """Return a linear classifier on features.

    Weights are uniform in ``+-1 / sqrt(num_features)``, torch's own default; the bias is zero, so
    that a new head does not prefer a class.
    """
    for name, value in (("num_features", num_features), ("num_classes", num_classes)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    head = nn.Linear(num_features, num_classes)
    bound = 1 / math.sqrt(num_features)
    nn.init.uniform_(head.weight, -bound, bound)
    nn.init.zeros_(head.bias)
    return head
