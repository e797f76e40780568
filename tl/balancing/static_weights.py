"""Fixed loss weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchjd.scalarization import Scalarizer


class StaticWeights(Scalarizer):
    """Weight the losses by fixed numbers: ``sum_i w_i L_i``.

    The baseline that a tuned method must beat (Kurin et al., 2022, arXiv:2201.04122; Xin et al.,
    2022, arXiv:2209.11379). With all weights 1 it is the plain sum.

    Args:
        weights: Weight by task name, finite and at least 0; every task needs one.

    Raises:
        ValueError: If there is no weight, or one is negative or not finite.
    """

    def __init__(self, weights: dict[str, float]) -> None:
        super().__init__()
        if not weights:
            raise ValueError("`weights` is empty; give a weight for each task.")
        for task, weight in weights.items():
            if not math.isfinite(weight) or weight < 0:
                raise ValueError(
                    f"The weight of task {task!r} must be finite and at least 0, got {weight}."
                )
        self.weights: Mapping[str, float] = dict(weights)
        self._vector: Tensor | None = None

    def name_tasks(self, tasks: Sequence[str]) -> None:
        """Arrange the weights in the order of the tasks.

        Raises:
            ValueError: If a weight is for an unknown task, or a task has none.
        """
        for name in self.weights:
            if name not in tasks:
                raise ValueError(
                    f"`weights` names the unknown task {name!r}; the tasks are {', '.join(tasks)}."
                )
        if missing := [name for name in tasks if name not in self.weights]:
            raise ValueError(f"`weights` has none for task {', '.join(map(repr, missing))}.")
        self._vector = torch.tensor([float(self.weights[name]) for name in tasks])

    def forward(self, values: Tensor, /) -> Tensor:
        """Return the weighted sum of the losses ``(T,)``."""
        if self._vector is None:
            raise ValueError("`StaticWeights` does not know the tasks yet; call `name_tasks`.")
        return (self._vector.to(values) * values).sum()
