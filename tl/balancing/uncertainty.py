"""Uncertainty weighting with the likelihood of the task at hand."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torchjd.scalarization import Scalarizer

Likelihood = Literal["regression", "classification"]


class Uncertainty(Scalarizer):
    """Learn how noisy each task is, and weight its loss accordingly.

    ``sum_i a exp(-s_i) L_i + s_i / 2`` with the learned ``s_i = log sigma_i^2`` (Kendall et al.,
    2018, arXiv:1705.07115). A Gaussian likelihood (equation 7, squared errors) has ``a = 1/2``, a
    softmax with temperature ``sigma^2`` (equation 10, cross-entropy) ``a = 1``. With
    ``regression`` it equals ``torchjd.scalarization.UW``.

    Args:
        shape: Number of tasks; a module fills it in.
        likelihood: Likelihood whose negative logarithm the losses are.
        start: Initial ``s_i``; 0 gives every task the same noise, ``sigma = 1``.

    Raises:
        ValueError: If the likelihood is unknown or there is no task.
    """

    def __init__(
        self,
        shape: int | None = None,
        likelihood: Likelihood = "classification",
        start: float = 0.0,
    ) -> None:
        super().__init__()
        if likelihood not in get_args(Likelihood):
            raise ValueError(
                f"`likelihood` must be one of {', '.join(get_args(Likelihood))}, "
                f"got {likelihood!r}."
            )
        if shape is not None and shape < 1:
            raise ValueError(f"`shape` must be 1 or more tasks, got {shape}.")
        self.likelihood = likelihood
        self.start = float(start)
        self.log_var = nn.Parameter(torch.empty(0))
        if shape is not None:
            self.fill_in(shape)

    def fill_in(self, count: int) -> None:
        """Set the number of tasks, unless it was given."""
        if not len(self.log_var):
            self.log_var = nn.Parameter(torch.full((count,), self.start))

    def forward(self, values: Tensor, /) -> Tensor:
        """Return the combination of the losses ``(T,)``."""
        if values.shape != self.log_var.shape:
            raise ValueError(
                f"`Uncertainty` was made for {len(self.log_var)} tasks, got {len(values)} losses."
            )
        factor = 0.5 if self.likelihood == "regression" else 1.0
        return (factor * torch.exp(-self.log_var) * values + 0.5 * self.log_var).sum()
