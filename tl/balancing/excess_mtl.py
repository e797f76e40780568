"""ExcessMTL: the task furthest from its own optimum gets the largest weight."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torchjd.aggregation import WeightedAggregator, Weighting

_EPS = 1e-7  # under the square root, as in the authors' code


class ExcessRiskWeights(Weighting[Tensor]):
    """Weight tasks by their estimated excess risks; see :class:`ExcessMTL`.

    Args:
        step_size: Step size of the weights, positive.

    Raises:
        ValueError: If the step size is not positive.
    """

    def __init__(self, step_size: float) -> None:
        super().__init__()
        if not step_size > 0:
            raise ValueError(f"`step_size` must be positive, got {step_size}.")
        self.step_size = step_size
        self._weights: Tensor | None = None  # (T,), sum to T
        self._squares: Tensor | None = None  # (T, P), summed over the steps
        self._first_risk: Tensor | None = None  # (T,)

    def select(self, numbers: Sequence[int]) -> None:
        """Drop all other tasks; the remaining weights sum to their number again."""
        rows = list(numbers)
        if self._weights is not None:
            kept = self._weights[rows]
            self._weights = kept * len(rows) / kept.sum()
        self._squares = None if self._squares is None else self._squares[rows]
        self._first_risk = None if self._first_risk is None else self._first_risk[rows]

    @torch.no_grad()
    def forward(self, matrix: Tensor, /) -> Tensor:
        """Return the weights ``(T,)`` from the gradients ``(T, P)``."""
        if self._weights is None or len(self._weights) != len(matrix):
            self._weights = torch.ones_like(matrix[:, 0])
        if self._squares is not None and self._squares.shape != matrix.shape:
            rank_zero_warn(
                f"ExcessMTL: gradients changed from {tuple(self._squares.shape)} to "
                f"{tuple(matrix.shape)}; the estimate of the risks starts over."
            )
            self._squares = None
        first = self._squares is None
        squares = matrix**2 if self._squares is None else self._squares + matrix**2
        self._squares = squares
        risk = (matrix**2 / (squares + _EPS).sqrt()).sum(dim=1)
        if first or self._first_risk is None:
            self._first_risk = risk
            return self._weights
        # eps matters only for a task whose first gradient was zero, which has no scale of its own
        normalised = risk / self._first_risk.clamp(min=torch.finfo(risk.dtype).eps)
        # in logarithms, so that a huge risk saturates the weights instead of overflowing
        logits = self._weights.log() + self.step_size * normalised
        self._weights = len(matrix) * logits.softmax(dim=0)
        return self._weights


class ExcessMTL(WeightedAggregator):
    """Raise the weight of the tasks whose excess risk is still large.

    ``w_i <- T w_i exp(eta E_i / E_i(0)) / sum_j w_j exp(eta E_j / E_j(0))``, where ``E_i = g_i^T
    diag(H_i)^-1 g_i`` estimates how far task ``i`` is from its own optimum, with ``H_i`` the square
    root of its squared gradients summed over the steps (He et al., 2024, arXiv:2402.02009,
    equations 6 to 9). The first call only measures ``E_i(0)`` and leaves all weights at 1. The
    weights also multiply the gradients of the heads, because in the authors' code they multiply the
    losses.

    The squared gradients take one float per task and shared parameter, in memory and in
    checkpoints. When the set of trainable shared parameters changes, the estimates are reset and
    the weights stay. ``torchjd.aggregation.ExcessMTL`` instead takes step size 1.0, makes its first
    update with unnormalised risks, and has weights that sum to 1.

    Args:
        step_size: ``eta``, positive. The default 0.01 is that of the authors' code
            (``--robust_step_size``); their README runs Office-Home with 1.

    Raises:
        ValueError: If the step size is not positive.
    """

    weights_heads = True
    weighting: ExcessRiskWeights

    def __init__(self, step_size: float = 0.01) -> None:
        super().__init__(ExcessRiskWeights(step_size))

    def select(self, numbers: Sequence[int]) -> None:
        """Drop all other tasks."""
        self.weighting.select(numbers)

    def __repr__(self) -> str:
        return f"ExcessMTL(step_size={self.weighting.step_size})"
