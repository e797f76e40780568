"""Barlow Twins: outputs agree between views, and their parts say different things."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from tl.tasks.two_views.base import TwoViews

_EPS = 1e-5  # of the batch norm without scale and shift in the authors' code


def barlow_twins(first: Tensor, second: Tensor, weight: float = 5e-3) -> Tensor:
    """Return how far the cross-correlation of both views is from the identity.

    ``sum_i (1 - C_ii)^2 + weight * sum_i sum_{j != i} C_ij^2`` with the correlation ``C_ij`` over
    the batch (Zbontar et al., 2021, arXiv:2103.03230, equations 1 and 2).

    Args:
        first: Outputs of the first views ``(N, D)``.
        second: Outputs of the second views ``(N, D)``.
        weight: ``lambda``.
    """
    correlation = _standardised(first).T @ _standardised(second) / len(first)
    diagonal = correlation.diagonal()
    rest = correlation.square().sum() - diagonal.square().sum()
    return (1 - diagonal).square().sum() + weight * rest


def _standardised(outputs: Tensor) -> Tensor:
    variance, mean = torch.var_mean(outputs, 0, unbiased=False)
    return (outputs - mean) * (variance + _EPS).rsqrt()


@dataclass(frozen=True)
class BarlowTwins(TwoViews):
    """Barlow Twins (Zbontar et al., 2021, arXiv:2103.03230): see :func:`barlow_twins`.

    Args:
        weight: ``lambda``, positive; the paper's 5e-3.
        hidden: Width of the projector's two hidden layers (section 3.2). The paper uses 8192 on
            ImageNet; 2048 is usual on CIFAR.
        size: Length of its output, likewise.
        **others: As for :class:`~tl.tasks.TwoViews`.

    Raises:
        ValueError: If a number is not positive.
    """

    weight: float = field(default=5e-3, kw_only=True)
    kind: ClassVar[str] = "barlow_twins"
    layers: ClassVar[int] = 2
    positive: ClassVar[tuple[str, ...]] = ("weight",)

    def agreement(self, first: Tensor, second: Tensor) -> Tensor:
        """Return :func:`barlow_twins`."""
        return barlow_twins(first, second, self.weight)
