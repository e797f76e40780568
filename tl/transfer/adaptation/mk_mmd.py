"""MK-MMD: bring the distributions of features together, by several kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tl.transfer.adaptation.base import Adaptation
from tl.transfer.penalties.base import Step

#: Kernel widths: squared, as multiples of the mean squared distance (Transfer-Learning-Library).
SCALES = (0.125, 0.25, 0.5, 1.0, 2.0)


def mk_mmd(source: Tensor, target: Tensor, scales: Sequence[float] = SCALES) -> Tensor:
    """Return the squared maximum mean discrepancy under a sum of Gaussian kernels.

    ``mean k(s, s') + mean k(t, t') - 2 mean k(s, t)`` with ``k(x, y) = sum_u exp(-|x - y|^2 /
    (2 sigma_u^2))``, where ``sigma_u^2`` is `scales` times the mean squared distance of all pairs.
    The means include each sample's pair with itself: the estimate is 0 or more, for batches of any
    two sizes.

    Args:
        source: Features ``(N, D)``.
        target: Features ``(M, D)``.
        scales: Multiples of the mean squared distance, above 0.
    """
    joint = torch.cat([source, target])
    squares = joint.square().sum(1)
    distances = (squares[:, None] + squares - 2 * joint @ joint.T).clamp(min=0)
    width = distances.detach().mean().clamp(min=torch.finfo(distances.dtype).tiny)
    kernels = torch.stack([torch.exp(-distances / (2 * scale * width)) for scale in scales]).sum(0)
    count = len(source)
    within = kernels[:count, :count].mean() + kernels[count:, count:].mean()
    return (within - 2 * kernels[:count, count:].mean()).clamp(min=0)


class MKMMD(Adaptation):
    """Bring the distributions of labelled and unlabelled features together.

    The squared maximum mean discrepancy of the batch's features under several Gaussian kernels
    (Long et al., 2015, arXiv:1502.02791, equations 1 and 2), see :func:`mk_mmd`. The paper learns
    the kernels' weights and compares three layers; here, as in the authors' later code, the
    kernels have equal weights and compare the last features.

    Args:
        weight: Weight relative to the ordinary loss, 0 or more. The paper chooses among 0.1 to
            1.4; 1.0 is its usual value and that of Transfer-Learning-Library.
        scales: Squared widths of the kernels as multiples of the mean squared distance, each
            above 0. The defaults are those of Transfer-Learning-Library.

    Raises:
        ValueError: If a number is out of range; when the model is built, without an unlabelled
            source.
    """

    def __init__(self, weight: float = 1.0, scales: Sequence[float] = SCALES) -> None:
        super().__init__(weight)
        if not scales or not all(0 < scale < math.inf for scale in scales):
            raise ValueError(
                f"`scales` must be above 0 and finite, one or more, got {list(scales)}."
            )
        self.scales = tuple(scales)

    def between(self, source: Tensor, target: Tensor, step: Step) -> Tensor:
        """Return the term."""
        return mk_mmd(source, target, self.scales)
