"""VICReg: views agree, no part of the output is constant, no two say the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from tl.tasks.two_views.base import TwoViews

_EPS = 1e-4  # added to the variances, the paper's


def vicreg(
    first: Tensor,
    second: Tensor,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Tensor:
    """Return the sum of three terms.

    ``invariance * s(Z, Z') + variance / 2 * [v(Z) + v(Z')] + covariance * [c(Z) + c(Z')]`` with the
    mean squared difference ``s``, the hinge ``v = mean_j max(0, 1 - sqrt(Var(z_j) + 1e-4))`` and
    the squared covariances ``c = sum_{i != j} C_ij^2 / D`` (Bardes et al., 2022, arXiv:2105.04906,
    equations 1 to 6). As in the authors' code, ``s`` is also a mean over the ``D`` numbers and the
    hinges are halved, which equation 6 does not say.

    Args:
        first: Outputs of the first views ``(N, D)``, at least 2.
        second: Outputs of the second views ``(N, D)``.
        invariance: ``lambda``.
        variance: ``mu``.
        covariance: ``nu``.
    """
    hinges = (_hinge(first) + _hinge(second)) / 2
    squares = _covariances(first) + _covariances(second)
    same = functional.mse_loss(first, second)
    return invariance * same + variance * hinges + covariance * squares


def _hinge(outputs: Tensor) -> Tensor:
    return (1 - (outputs.var(0) + _EPS).sqrt()).relu().mean()


def _covariances(outputs: Tensor) -> Tensor:
    centred = outputs - outputs.mean(0)
    covariance = centred.T @ centred / (len(outputs) - 1)
    off = covariance.square().sum() - covariance.diagonal().square().sum()
    return off / outputs.shape[1]


@dataclass(frozen=True)
class VICReg(TwoViews):
    """VICReg (Bardes et al., 2022, arXiv:2105.04906): see :func:`vicreg`.

    Args:
        invariance: ``lambda``, positive; the paper's 25.
        variance: ``mu``, positive; the paper's 25.
        covariance: ``nu``, positive; the paper's 1.
        hidden: Width of the projector's two hidden layers. The paper uses 8192 on ImageNet; 2048
            is usual on CIFAR.
        size: Length of its output, likewise.
        **others: As for :class:`~tl.tasks.TwoViews`.

    Raises:
        ValueError: If a number is not positive.
    """

    invariance: float = field(default=25.0, kw_only=True)
    variance: float = field(default=25.0, kw_only=True)
    covariance: float = field(default=1.0, kw_only=True)
    kind: ClassVar[str] = "vicreg"
    layers: ClassVar[int] = 2
    positive: ClassVar[tuple[str, ...]] = ("invariance", "variance", "covariance")

    def agreement(self, first: Tensor, second: Tensor) -> Tensor:
        """Return :func:`vicreg`."""
        return vicreg(first, second, self.invariance, self.variance, self.covariance)
