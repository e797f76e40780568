"""Dynamic task prioritization: the harder task gets the larger weight."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchjd.scalarization import Scalarizer


class DynamicTaskPrioritization(Scalarizer):
    """Weight each loss by how poorly its task currently performs.

    ``sum_i -(1 - k_i)^gamma log(k_i) L_i`` (Guo et al., 2018, "Dynamic Task Prioritization for
    Multitask Learning", ECCV): the focal weight of a running key performance indicator, here the
    training accuracy, ``k_i(t) = alpha acc_i(t) + (1 - alpha) k_i(t - 1)``, updated after each
    optimizer step. A task that has not been seen yet has weight 1. The weights have no fixed sum:
    they fall towards 0 as the tasks are learned, as in the paper.

    Args:
        gamma: Focusing exponent, at least 0: the larger, the less weight a well-learned task gets.
            The default is the focal loss's (Lin et al., 2017, arXiv:1708.02002).
        alpha: Share of the newest accuracy in the running mean, above 0 and at most 1.
        floor: Smallest ``k`` in the formula, which is infinite at 0; above 0 and below 1.

    All three defaults are ours: the authors published no code, and neither the values nor the
    formula were checked against the paper. The formula is that of public reimplementations.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.1, floor: float = 0.01) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"`gamma` must be at least 0, got {gamma}.")
        if not 0 < alpha <= 1:
            raise ValueError(f"`alpha` must be above 0 and at most 1, got {alpha}.")
        if not 0 < floor < 1:
            raise ValueError(f"`floor` must be above 0 and below 1, got {floor}.")
        self.gamma = gamma
        self.alpha = alpha
        self.floor = floor
        self._accuracy: Tensor | None = None  # (T,), NaN for a task that has not been seen yet

    def name_tasks(self, tasks: Sequence[str]) -> None:
        """Start without known accuracies."""
        self._accuracy = torch.full((len(tasks),), torch.nan)

    def update_accuracy(self, accuracy: Tensor) -> None:
        """Update with the accuracies of an optimizer step.

        Args:
            accuracy: ``(T,)`` in [0, 1], NaN for a task without images in the step.
        """
        known = accuracy if self._accuracy is None else self._accuracy.to(accuracy)
        mixed = self.alpha * accuracy + (1 - self.alpha) * known
        first_or_mixed = torch.where(known.isnan(), accuracy, mixed)
        self._accuracy = torch.where(accuracy.isnan(), known, first_or_mixed)

    def weights(self, values: Tensor) -> Tensor:
        """Return the weight of each task ``(T,)``."""
        if self._accuracy is None:
            return torch.ones_like(values)
        kpi = self._accuracy.to(values).clamp(self.floor, 1.0)
        return torch.where(kpi.isnan(), 1.0, -((1 - kpi) ** self.gamma) * kpi.log())

    def forward(self, values: Tensor, /) -> Tensor:
        """Return the weighted sum of the losses ``(T,)``."""
        return (self.weights(values) * values).sum()
