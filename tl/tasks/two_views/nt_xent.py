"""SimCLR: each view should find its other view among all images of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from tl.tasks.heads import vector_length
from tl.tasks.two_views.base import TwoViews, positive
from tl.tasks.two_views.projector import Passes, Projector, mlp


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
        name: Name in metrics and of the projector; a source gives its own name.
        temperature: ``t``, positive. The paper finds 0.5 best on CIFAR-10 (figure B.7).
        hidden: Width of the projector's hidden layer.
        size: Length of its output, the paper's.
        passes: Both views in ``one`` pass or in ``two``, see :class:`~tl.tasks.TwoViews`.
        source: Name of the data source that the task reads in a batch of several.
        target: Key of the targets in a source that has several; only counted, never read.
        shares: Name of another task whose projector this one uses.
        trains: Whether the task trains; if not, it is only evaluated.

    Raises:
        ValueError: If a number is not positive.
    """

    name: str = "views"
    temperature: float = 0.5
    hidden: int = 512
    size: int = 128
    passes: Passes = "one"
    source: str | None = None
    target: str | None = None
    shares: str | None = None
    trains: bool = True
    kind: ClassVar[str] = "nt_xent"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("temperature", self.temperature)

    @property
    def answers(self) -> str:
        """What the head gives."""
        return f"{self.size} numbers per view for NT-Xent"

    def head(self, num_features: int | Sequence[int]) -> nn.Module:
        """Return the projector: one hidden layer with batch norm (appendix B.9)."""
        net = mlp(vector_length(num_features), self.hidden, self.size)
        return Projector(net, self.passes)

    def agreement(self, first: Tensor, second: Tensor) -> Tensor:
        """Return :func:`nt_xent`."""
        return nt_xent(first, second, self.temperature)
