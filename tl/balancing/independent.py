"""SDMGrad and MoDo: weights from the gradients of independent batches."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torchjd.aggregation import MoDoWeighting, SDMGradWeighting, WeightedAggregator


class IndependentBatches(WeightedAggregator):
    """Weight the tasks by the product ``J_1 J_2^T`` of the gradients of two independent batches.

    Weights from the gradients of one batch are biased: its noise is squared in ``J J^T``. The
    batches are the micro-batches of an optimizer step, so that the Trainer needs
    ``accumulate_grad_batches`` of :attr:`batches` at least; where it accumulates more, they take
    turns. Heads train on all of them.

    Attributes:
        batches: How many independent batches a step has.
    """

    batches: int

    @abstractmethod
    def own(self, batches: Tensor) -> Tensor:
        """Return the gradients ``(T, P)`` to weight, of those of all batches ``(B, T, P)``."""

    @torch.no_grad()
    def forward(self, matrix: Tensor, /) -> Tensor:
        """Return the update ``(P,)`` from the gradients ``(B T, P)``, batch after batch."""
        batches = matrix.reshape(self.batches, -1, matrix.shape[1])
        weights: Tensor = self.weighting(batches[0] @ batches[1].T)
        return weights @ self.own(batches)


class SDMGrad(IndependentBatches):
    """Stay near the mean gradient, and let no task lose.

    ``w`` minimises ``||J^T (w + lambda w0)||^2 / 2`` over the simplex, by ``n_iter`` projected
    steps of SGD from the last step's ``w`` on ``J_1 J_2^T (w + lambda w0)``, with ``w0 = 1 / T``;
    the update is ``J_3^T (w + lambda w0)``, from a third batch (Xiao et al., 2023,
    arXiv:2305.18409, algorithm 1), over ``1 + lambda``, as in the authors' code. The weights are
    those of ``torchjd.aggregation``.

    The defaults are those of the authors' runs, but for ``lr``, which is 10 there: with it the
    weights overshoot from corner to corner of the simplex, also on orthogonal gradients of equal
    size; with 1 they converge. Where no task's gradients agree between the two batches, as may
    happen with small ones, torchjd's scale of ``J_1 J_2^T`` is 0, and the weights jump to a corner.

    The authors' code holds the three gradients in one memory (``[tensor] * 3``), so that the last
    batch's stand for all; it also multiplies the update by the number of tasks, and clips its norm
    to 1.

    Args:
        lambda_: Pull towards the mean gradient, at least 0; 0.3 in the authors' runs.
        n_iter: Steps of the weights in each step, positive.
        lr: Their learning rate, positive; 10 in the authors' code.
        momentum: Their momentum, at least 0 and below 1.

    Raises:
        ValueError: If an argument is out of range.
    """

    batches = 3
    weighting: SDMGradWeighting

    def __init__(
        self, lambda_: float = 0.3, n_iter: int = 20, lr: float = 1.0, momentum: float = 0.5
    ) -> None:
        super().__init__(SDMGradWeighting(lr, momentum, n_iter, lambda_))

    def own(self, batches: Tensor) -> Tensor:
        """Return the gradients of the third batch."""
        return batches[2]

    def __repr__(self) -> str:
        given = self.weighting
        return f"SDMGrad(lambda_={given.lambda_}, n_iter={given.n_iter}, lr={given.lr})"


class MoDo(IndependentBatches):
    """Follow the common descent direction without its bias, by double sampling.

    ``w <- P(w - gamma (J_1 J_2^T w + rho w))`` with the projection ``P`` onto the simplex; the
    update is ``(J_1 + J_2)^T w / 2`` (Chen, Fernando et al., 2023, arXiv:2305.20057, algorithm 1;
    two batches, as their code by default). The weights are those of ``torchjd.aggregation``.

    Args:
        gamma: Step size of the weights, positive; 0.1 in the authors' code. It multiplies squared
            gradients, so that a good value depends on the size of the losses.
        rho: Their L2 penalty, at least 0.

    Raises:
        ValueError: If an argument is out of range.
    """

    batches = 2
    weighting: MoDoWeighting

    def __init__(self, gamma: float = 0.1, rho: float = 0.1) -> None:
        super().__init__(MoDoWeighting(gamma, rho))

    def own(self, batches: Tensor) -> Tensor:
        """Return the mean of both batches' gradients."""
        return batches.mean(dim=0)

    def __repr__(self) -> str:
        return f"MoDo(gamma={self.weighting.gamma}, rho={self.weighting.rho})"
