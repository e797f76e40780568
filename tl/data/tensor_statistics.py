"""Standardising arrays of levels, such as bytes, by mean and standard deviation per channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tl.batch import Inputs

#: Mean and standard deviation ``(C,)`` of each part of the inputs that holds levels, by its name.
Statistics = Mapping[str, tuple[Tensor, Tensor]]


def standardised(inputs: Inputs, statistics: Statistics) -> Inputs:
    """Return a batch whose levels are standardised.

    Args:
        inputs: One tensor ``(N, C, ...)``, of the name ``""``, or several by name.
        statistics: By name; parts without any stay as they are.
    """
    if not isinstance(inputs, Mapping):
        return _part(inputs, statistics.get(""))
    return {name: _part(part, statistics.get(name)) for name, part in inputs.items()}


def _part(part: Tensor, statistics: tuple[Tensor, Tensor] | None) -> Tensor:
    if statistics is None:
        return part
    shape = (1, -1, *[1] * (part.ndim - 2))
    mean, std = (each.to(part.device).view(shape) for each in statistics)
    return (part.float() - mean) / std


def recorded(statistics: Statistics) -> dict[str, list[list[float]]]:
    """Return statistics in plain types, for a checkpoint."""
    return {name: [each.tolist() for each in both] for name, both in statistics.items()}


def statistics_of(record: Mapping[str, Any]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the statistics in the description of a :class:`~tl.data.TensorDataModule`."""
    return {
        str(name): (torch.tensor(mean), torch.tensor(std))
        for name, (mean, std) in (record.get("statistics") or {}).items()
    }
