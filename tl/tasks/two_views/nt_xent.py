"""SimCLR: each view should find its other view among all images of the batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from tl.tasks.two_views.base import TwoViews


def nt_xent(first: Tensor, second: Tensor, temperature: float = 0.5) -> Tensor:
    """Return the normalised, temperature-scaled cross-entropy.

    ``l_ij = -log exp(sim(z_i, z_j) / t) / sum_{k != i} exp(sim(z_i, z_k) / t)`` with the cosine
    ``sim``, meant over both orders of all pairs (Chen et al., 2020, arXiv:2002.05709, equation 1).

    Args:
        first: Outputs of the first views ``(N, D)``.
        second: Outputs of the second views ``(N, D)``.
        temperature: ``t``.
    """
    outputs = functional.normalize(torch.cat([first, second]))
    count = len(outputs)
    cosines = (outputs @ outputs.T) / temperature
    cosines = cosines.masked_fill(
        torch.eye(count, dtype=torch.bool, device=outputs.device), -torch.inf
    )
    other = (torch.arange(count, device=outputs.device) + count // 2) % count
    return functional.cross_entropy(cosines, other)


@dataclass(frozen=True)
class NTXent(TwoViews):
    """SimCLR (Chen et al., 2020, arXiv:2002.05709): see :func:`nt_xent`.

    Args:
        temperature: ``t``, positive. The paper finds 0.5 best on CIFAR-10 (figure B.7).
        hidden: Width of the projector's hidden layer (appendix B.9).
        size: Length of its output, the paper's.
        **others: As for :class:`~tl.tasks.TwoViews`.

    Raises:
        ValueError: If a number is not positive.
    """

    temperature: float = field(default=0.5, kw_only=True)
    hidden: int = 512
    size: int = 128
    kind: ClassVar[str] = "nt_xent"
    positive: ClassVar[tuple[str, ...]] = ("temperature",)

    def agreement(self, first: Tensor, second: Tensor) -> Tensor:
        """Return :func:`nt_xent`."""
        return nt_xent(first, second, self.temperature)
