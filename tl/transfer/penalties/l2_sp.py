"""L2-SP: stay near the start."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tl.batch import at_least_float32
from tl.transfer.penalties.base import Penalty, Start, StartWeights, Step, require_source


def squared_distance(pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum the squared differences of pairs of tensors of equal shape, in float32 or above."""
    return torch.stack([at_least_float32(a).sub(b).square().sum() for a, b in pairs]).sum()


class L2SP(Penalty):
    """Decay toward the pretrained weights instead of toward zero.

    ``alpha / 2 * ||w - w0||^2 + beta / 2 * ||v||^2`` with the backbone's weights ``w``, their
    start ``w0`` and the new heads' weights ``v`` (Li et al., 2018, arXiv:1802.01483, section 3).
    All parameters count, as in the paper (the authors' code leaves out biases and batch norm). The
    optimizer's weight decay is turned off for parameters on which the term acts.

    Args:
        alpha: Strength on the backbone, 0 or more. The paper searches it for each target; 0.1 is in
            the authors' command, 0.01 is the default of their code.
        beta: Strength on the heads, 0 or more; the default is from the paper and the authors'
            command.

    Raises:
        ValueError: If a strength is negative; at the run's start, without source weights.
    """

    def __init__(self, alpha: float = 0.1, beta: float = 0.01) -> None:
        super().__init__()
        for name, value in (("alpha", alpha), ("beta", beta)):
            if value < 0:
                raise ValueError(f"`{name}` must be 0 or more, got {value}.")
        self.alpha = alpha
        self.beta = beta
        self.weights: StartWeights | None = None

    def attach(self, backbone: nn.Module, heads: nn.Module) -> None:
        """Allocate the start weights."""
        self.weights = StartWeights(backbone)

    def prepare(self, start: Start) -> None:
        """Refuse a run without a source."""
        require_source(self, start)

    def start(self, start: Start) -> None:
        """Store the source's weights."""
        if self.weights is not None:
            self.weights.set(dict(start.backbone.named_parameters()))

    def decays(self) -> set[str]:
        """Return the parts whose strength is not 0."""
        parts = (("backbone", self.alpha), ("head", self.beta))
        return {part for part, strength in parts if strength}

    def forward(self, step: Step) -> Tensor:
        """Return the term."""
        if self.weights is None:
            raise ValueError("L2SP has no start weights; it must be attached to a model first.")
        distance = squared_distance(self.weights.pairs(step.backbone))
        size = squared_distance((p, torch.zeros_like(p)) for p in step.heads.parameters())
        return self.alpha / 2 * distance + self.beta / 2 * size
