"""VICReg: views agree, no part of the output is constant, no two say the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from tl.tasks.heads import vector_length
from tl.tasks.two_views.base import TwoViews, positive
from tl.tasks.two_views.projector import Passes, Projector, mlp

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
        name: Name in metrics and of the projector; a source gives its own name.
        invariance: ``lambda``, positive; the paper's 25.
        variance: ``mu``, positive; the paper's 25.
        covariance: ``nu``, positive; the paper's 1.
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
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    hidden: int = 2048
    size: int = 2048
    passes: Passes = "one"
    source: str | None = None
    target: str | None = None
    shares: str | None = None
    trains: bool = True
    kind: ClassVar[str] = "vicreg"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("invariance", "variance", "covariance"):
            positive(name, getattr(self, name))

    @property
    def answers(self) -> str:
        """What the head gives."""
        return f"{self.size} numbers per view for VICReg"

    def head(self, num_features: int | Sequence[int]) -> nn.Module:
        """Return the projector: two hidden layers with batch norm, none on the output."""
        net = mlp(vector_length(num_features), self.hidden, self.hidden, self.size)
        return Projector(net, self.passes)

    def agreement(self, first: Tensor, second: Tensor) -> Tensor:
        """Return :func:`vicreg`."""
        return vicreg(first, second, self.invariance, self.variance, self.covariance)
