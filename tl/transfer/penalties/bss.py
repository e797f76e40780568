"""Batch spectral shrinkage: suppress what does not transfer."""

from __future__ import annotations

import torch
from torch import Tensor

from tl.batch import at_least_float32
from tl.tasks.two_views.gather import gathered_rows
from tl.transfer.penalties.base import Penalty, Step


class BSS(Penalty):
    """Shrink the smallest singular values of a batch's features.

    ``eta * sum_{i=1..k} sigma_{-i}^2`` where ``sigma_{-i}`` is the i-th smallest singular value of
    the feature matrix ``(N, D)`` of the batch (Chen et al., 2019, "Catastrophic Forgetting Meets
    Negative Transfer: Batch Spectral Shrinkage for Safe Transfer Learning"): directions of small
    singular values do not transfer. It needs no source; without one it is an ordinary regulariser.
    Unlike the other terms it does not start at 0. Several processes compute it on the joint batch.
    The authors' code gives the head 10 times the learning rate, which is not part of the term.

    Args:
        k: Number of singular values, 1 or more, capped at all of them; the default is the authors'
            code's.
        eta: Strength, 0 or more; the default is the authors' code's.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, k: int = 1, eta: float = 1e-3) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"`k` must be 1 or more, got {k}.")
        if eta < 0:
            raise ValueError(f"`eta` must be 0 or more, got {eta}.")
        self.k = k
        self.eta = eta

    def forward(self, step: Step) -> Tensor:
        """Return the term, computed on the features of all sources together."""
        features = gathered_rows(torch.cat(list(step.features.values())))
        return self.eta * smallest_energy(features, self.k)


def smallest_energy(features: Tensor, k: int) -> Tensor:
    """Sum the squares of the `k` smallest singular values of features ``(N, D)``."""
    # decompositions do not support half precision
    with torch.autocast(features.device.type, enabled=False):
        values: Tensor = torch.linalg.svdvals(at_least_float32(features))
        return values[-k:].square().sum()
