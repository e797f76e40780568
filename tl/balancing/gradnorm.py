"""GradNorm: loss weights that make the tasks train at similar rates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torchjd.scalarization import Scalarizer


class GradNorm(Scalarizer):
    """Learn loss weights that drive the norms of the tasks' gradients to targets.

    ``sum_i w_i L_i``, where after each step the ``w_i`` descend on ``sum_i |G_i - target_i|``
    with ``G_i = ||grad_W (w_i L_i)||``, ``target_i = mean(G) r_i^alpha`` held constant, and the
    inverse training rate ``r_i = (L_i / L_i(0)) / mean_j(L_j / L_j(0))``; the weights are then
    scaled to sum to the number of tasks (Chen et al., 2018, arXiv:1711.02257, equations 1 and 2 and
    algorithm 1). ``G_i`` is linear in ``w_i``, so the derivative ``||grad_W L_i|| sign(G_i -
    target_i)`` needs no second backward pass. ``L_i(0)`` is the first loss seen.

    Args:
        alpha: Strength of the pull towards equal rates, at least 0; 0 equalises the norms. The
            paper uses 1.5 for scenes (section 5.2) and 0.12 for its toy tasks.
        lr: Learning rate of the weights' Adam, positive. The paper's is 0.025, with Adam for
            all optimizers (section 5.1). The authors published no code; lucidrains/gradnorm-pytorch
            takes 1e-4 with plain descent, LibMTL the optimizer of the run.
        stage: Stage of the backbone whose weights are ``W``; by default only its last trainable
            block (the paper's "last shared layer"), which costs a fraction of a backward pass. The
            weights stay while it is frozen.
        floor: Smallest weight before they are scaled, positive: descent may overshoot 0. Not in the
            paper.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        alpha: float = 1.5,
        lr: float = 0.025,
        stage: str | None = None,
        floor: float = 1e-3,
    ) -> None:
        super().__init__()
        if alpha < 0:
            raise ValueError(f"`alpha` must be at least 0, got {alpha}.")
        if lr <= 0:
            raise ValueError(f"`lr` must be positive, got {lr}.")
        if floor <= 0:
            raise ValueError(f"`floor` must be positive, got {floor}.")
        self.alpha = alpha
        self.lr = lr
        self.stage = stage
        self.floor = floor
        self._weights = nn.Parameter(torch.ones(0), requires_grad=False)
        self._first_losses: Tensor | None = None  # (T,), NaN for a task that has not been seen yet
        self._optimizer: Adam | None = None

    def name_tasks(self, tasks: Sequence[str]) -> None:
        """Start with equal weights."""
        self._weights = nn.Parameter(torch.ones(len(tasks)), requires_grad=False)

    def forward(self, values: Tensor, /) -> Tensor:
        """Return the weighted sum of the losses ``(T,)``."""
        if values.shape != self._weights.shape:
            raise ValueError(
                f"`GradNorm` knows {len(self._weights)} tasks, got {len(values)} losses; call "
                "`name_tasks` first."
            )
        return (self._weights.detach() * values).sum()

    @torch.no_grad()
    def update_gradients(self, norms: Tensor, losses: Tensor) -> None:
        """Update the weights; called after the gradients of an optimizer step.

        Args:
            norms: ``||grad_W (w_i L_i)||`` by task ``(T,)``, NaN for an absent task.
            losses: ``L_i`` by task ``(T,)``.
        """
        seen = ~norms.isnan()
        first = (
            torch.full_like(losses, torch.nan)
            if self._first_losses is None
            else (self._first_losses.to(losses))
        )
        first = torch.where(seen & first.isnan(), losses, first)
        self._first_losses = first
        if int(seen.sum()) < 2:  # noqa: PLR2004 - a rate is relative to another task's
            return
        weights = self._weights
        ratio = losses[seen] / first[seen]
        target = norms[seen].mean() * (ratio / ratio.mean()) ** self.alpha
        gradient = torch.zeros_like(weights)
        gradient[seen] = norms[seen] / weights[seen] * torch.sign(norms[seen] - target)
        if self._optimizer is None:
            self._optimizer = Adam([weights], lr=self.lr)
        weights.grad = gradient
        self._optimizer.step()
        weights.grad = None
        weights.clamp_(min=self.floor)
        weights.mul_(len(weights) / weights.sum())

    def __repr__(self) -> str:
        return f"GradNorm(alpha={self.alpha}, lr={self.lr}, stage={self.stage!r})"
