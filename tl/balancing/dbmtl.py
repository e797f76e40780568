"""DB-MTL: balance the scales of the losses and of the gradients."""

from __future__ import annotations

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torchjd.aggregation import Aggregator


class DBMTL(Aggregator):
    """Take logarithms of the losses, then scale all gradients to the norm of the largest.

    With ``g_i = grad log(L_i + eps)`` and the running mean ``m_i(k) = b m_i(k - 1) + (1 - b)
    g_i``, ``b = beta / k^decay`` in step ``k``, the update is ``max_j ||m_j|| sum_i m_i /
    ||m_i||`` (Lin et al., 2023, arXiv:2308.12029, algorithm 1). Heads receive the gradient of the
    sum of logarithms, as in the paper. The running means take one float per task and shared
    parameter, in memory and in checkpoints.

    Args:
        beta: Weight of the past in the running mean, at least 0 and below 1; 0 turns it off.
        decay: How fast the weight of the past decays over the steps, at least 0. The authors' code
            in LibMTL has 0 as its default (``DB_beta_sigma``): a constant ``beta``.
        eps: Added to losses before the logarithm, positive; 1e-8 as in the authors' code.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, beta: float = 0.9, decay: float = 0.5, eps: float = 1e-8) -> None:
        super().__init__()
        if not 0 <= beta < 1:
            raise ValueError(f"`beta` must be at least 0 and below 1, got {beta}.")
        if decay < 0:
            raise ValueError(f"`decay` must be at least 0, got {decay}.")
        if eps <= 0:
            raise ValueError(f"`eps` must be positive, got {eps}.")
        self.beta = beta
        self.decay = decay
        self.eps = eps
        self._mean: Tensor | None = None
        self._steps = 0

    def loss_weights(self, values: Tensor) -> Tensor:
        """Return the derivatives of ``log(L_i + eps)`` at the losses ``(T,)``."""
        return 1 / (values + self.eps)

    @torch.no_grad()
    def forward(self, matrix: Tensor, /) -> Tensor:
        """Return the update ``(P,)`` from the gradients of the logarithms ``(T, P)``."""
        if self._mean is not None and self._mean.shape != matrix.shape:
            rank_zero_warn(
                f"DBMTL: gradients changed from {tuple(self._mean.shape)} to "
                f"{tuple(matrix.shape)}; the running mean is reset."
            )
            self._mean, self._steps = None, 0
        self._steps += 1
        past = torch.zeros_like(matrix) if self._mean is None else self._mean
        weight = self.beta / self._steps**self.decay
        self._mean = matrix + weight * (past - matrix)
        norms = self._mean.norm(dim=1)
        # a gradient of zero has no direction to scale up
        scales = torch.where(norms > 0, norms.max() / norms, 0.0)
        return scales @ self._mean

    def __repr__(self) -> str:
        return f"DBMTL(beta={self.beta}, decay={self.decay})"
