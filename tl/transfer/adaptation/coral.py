"""CORAL: align the covariances of features."""

from __future__ import annotations

import torch
from torch import Tensor

from tl.transfer.adaptation.base import Adaptation
from tl.transfer.penalties.base import Step


def coral(source: Tensor, target: Tensor) -> Tensor:
    """Return ``||C_S - C_T||_F^2 / (4 D^2)``.

    Args:
        source: Features ``(N, D)``, `N` 2 or more.
        target: Features ``(M, D)``, `M` 2 or more.
    """
    difference = torch.cov(source.T) - torch.cov(target.T)
    return difference.square().sum() / (4 * source.shape[1] ** 2)


class CORAL(Adaptation):
    """Align the covariances of labelled and unlabelled features.

    ``||C_S - C_T||_F^2 / (4 D^2)`` with the covariances ``C`` of the batch's features of length
    ``D`` (Sun & Saenko, 2016, arXiv:1607.01719, equations 1 to 3). Other codes scale it otherwise:
    Transfer-Learning-Library by ``1 / D^2`` with the means' distance added.

    Args:
        weight: Weight relative to the ordinary loss, 0 or more. The paper gives no number: it
            wants both losses about equal at the end of training (section 4.2). The term is small
            for long features. The default is the trade-off of Transfer-Learning-Library.

    Raises:
        ValueError: If `weight` is out of range; when the model is built, without an unlabelled
            source.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def between(self, source: Tensor, target: Tensor, step: Step) -> Tensor:
        """Return the term; 0 for a batch of one sample on a side, which has no covariance."""
        if min(len(source), len(target)) < 2:  # noqa: PLR2004 - for a covariance
            return (source.sum() + target.sum()) * 0.0
        return coral(source, target)
