"""BYOL: predict what a slowly moving copy of the network says of the other view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from tl.tasks.heads import vector_length
from tl.tasks.two_views.base import TwoViews
from tl.tasks.two_views.projector import Passes, by_view, mlp


def byol(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the squared distance between normalised predictions and targets.

    ``2 - 2 <q, z'> / (|q| |z'|)``, meant over the batch (Grill et al., 2020, arXiv:2006.07733,
    equation 2).

    Args:
        predictions: ``q`` of one view ``(N, D)``.
        targets: ``z'`` of the other view ``(N, D)``; they get no gradient.
    """
    return 2 - 2 * functional.cosine_similarity(predictions, targets.detach()).mean()


class PredictorHead(nn.Module):
    """A projector, which has a momentum twin, and a predictor, which has none.

    Args:
        net: The projector, ``(N, num_features)`` to ``(N, size)``.
        predictor: The predictor, ``(N, size)`` to ``(N, size)``.
        passes: Both views in ``one`` pass or in ``two``.
    """

    def __init__(self, net: nn.Module, predictor: nn.Module, passes: Passes = "one") -> None:
        super().__init__()
        self.net = net
        self.predictor = predictor
        self.passes = passes

    def forward(self, features: Tensor) -> Tensor:
        """Predict from features ``(2N, D)``, the first view of all images, then the second."""
        both = nn.Sequential(self.net, self.predictor)
        return by_view(both, features, self.passes if self.training else "one")


@dataclass(frozen=True)
class BYOL(TwoViews):
    """BYOL (Grill et al., 2020, arXiv:2006.07733): :func:`byol` of both views, added.

    The targets come from a momentum twin of backbone and projector, ``xi <- tau xi + (1 - tau)
    theta`` after each step, with ``tau = 1 - (1 - momentum) (cos(pi k / K) + 1) / 2`` at step ``k``
    of ``K`` (equation 1 and section 3.2). The twin normalises by its own batches, as the authors'
    does, and is saved in checkpoints. A run without a known length keeps ``momentum``.

    Args:
        momentum: ``tau`` at the start, 0 to 1. The paper uses 0.996 for 1,000 epochs of ImageNet;
            0.99 is usual on CIFAR-10.
        hidden: Width of the hidden layers of projector and predictor. The paper uses 4096 on
            ImageNet; 1024 is usual on CIFAR.
        size: Length of their outputs, the paper's.
        **others: As for :class:`~tl.tasks.TwoViews`.

    Raises:
        ValueError: If a number is out of range.
    """

    momentum: float = field(default=0.99, kw_only=True)
    hidden: int = 1024
    size: int = 256
    kind: ClassVar[str] = "byol"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"`momentum` must be from 0 to 1, got {self.momentum}.")

    def head(self, num_features: int | Sequence[int]) -> nn.Module:
        """Return projector and predictor, each with one hidden layer with batch norm."""
        projector = mlp(vector_length(num_features), self.hidden, self.size)
        return PredictorHead(projector, mlp(self.size, self.hidden, self.size), self.passes)

    def twin(self, head: nn.Module) -> nn.Module:
        """Return the projector."""
        return head.get_submodule("net")

    def momentum_at(self, progress: float) -> float:
        """Return ``tau``."""
        return 1 - (1 - self.momentum) * (math.cos(math.pi * progress) + 1) / 2

    def settle(self, target: object, *, checked: bool = False) -> Tensor:
        """Return the twin's outputs ``(2N, size)``."""
        return self.tensor_of(target, "(2N, size) from the twin", lambda shape: len(shape) == 2)  # noqa: PLR2004

    def check(self, target: object) -> Tensor:
        """Count the images; the targets of the data are not the task's."""
        return super().settle(target)

    def truth(self, target: Tensor) -> Tensor:
        """Return ``True`` for each image ``(N,)``, as other tasks on two views have it."""
        return torch.ones(len(target) // 2, dtype=torch.bool, device=target.device)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of both views; it is a mean over images, which need no other process.

        Args:
            output: Predictions ``(2N, size)``, the first view of all images, then the second.
            target: The twin's outputs, likewise.
        """
        if len(output) < 4:  # noqa: PLR2004 - two images
            return self.single(output)
        first, second = output.chunk(2)
        other_first, other_second = target.chunk(2)
        return byol(first, other_second) + byol(second, other_first)

    def agreement(self, first: Tensor, second: Tensor) -> Tensor:
        """Return :func:`byol` of predictions and targets."""
        return byol(first, second)
