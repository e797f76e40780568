"""Barlow Twins: outputs agree between views, and their parts say different things."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from tl.tasks.heads import vector_length
from tl.tasks.two_views.base import TwoViews, positive
from tl.tasks.two_views.projector import Passes, Projector, mlp

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
        name: Name in metrics and of the projector; a source gives its own name.
        weight: ``lambda``, positive; the paper's 5e-3.
        hidden: Width of the projector's two hidden layers. The paper uses 8192 on ImageNet; 2048
            is usual on CIFAR.
        size: Length of its output, likewise.
        passes: Both views in ``one`` pass or in ``two``, see :class:`~tl.tasks.TwoViews`.
        source: Name of the data source that the task reads in a batch of several.
        target: Key of the targets in a source that has several; only counted, never read.
        shares: Name of another task whose projector this one uses.
        trains: Whether the task trains; if not, it is only evaluated.

    Raises:
        ValueError: If a number is not positive.
    """

    name: str = "views"
    weight: float = 5e-3
    hidden: int = 2048
    size: int = 2048
    passes: Passes = "one"
    source: str | None = None
    target: str | None = None
    shares: str | None = None
    trains: bool = True
    kind: ClassVar[str] = "barlow_twins"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("weight", self.weight)

    @property
    def answers(self) -> str:
        """What the head gives."""
        return f"{self.size} numbers per view for Barlow Twins"

    def head(self, num_features: int | Sequence[int]) -> nn.Module:
        """Return the projector: two hidden layers with batch norm (section 3.2)."""
        net = mlp(vector_length(num_features), self.hidden, self.hidden, self.size)
        return Projector(net, self.passes)

    def agreement(self, first: Tensor, second: Tensor) -> Tensor:
        """Return :func:`barlow_twins`."""
        return barlow_twins(first, second, self.weight)
