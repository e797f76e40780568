"""STCH: a smooth maximum of the losses, each relative to where its warm-up ended."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchjd.scalarization import Scalarizer

_EPS = 1e-20  # in the logarithms, as in the authors' code


class STCH(Scalarizer):
    """Train mostly on the task that has improved least since the warm-up.

    ``T mu log sum_i exp(log(L_i / z_i) / mu)``, a smooth maximum of the logarithms of ``T`` losses
    over their nadirs (Lin et al., 2024, arXiv:2402.19078, and the authors' code for multi-task
    learning). During the first ``warmup_epochs`` the sum of the ``log L_i`` trains; the nadir
    ``z_i`` is the mean of ``L_i`` over the last of them. For a task that the warm-up never saw, its
    first loss is the nadir.

    ``torchjd.scalarization.STCH`` implements only the formula, on the losses themselves, without
    logarithm, nadir and warm-up.

    Args:
        mu: Smoothing, positive; the smaller, the closer to the maximum. 1.0 as in the authors'
            code.
        warmup_epochs: Epochs of the warm-up, 1 or more. The default 5 matches the authors'
            ``STCH_warmup_epoch`` of 4: four epochs, and one that measures the nadir. A run that is
            not longer than this trains on the sum of logarithms throughout.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(self, mu: float = 1.0, warmup_epochs: int = 5) -> None:
        super().__init__()
        if not mu > 0:
            raise ValueError(f"`mu` must be positive, got {mu}.")
        if warmup_epochs < 1:
            raise ValueError(f"`warmup_epochs` must be 1 or more, got {warmup_epochs}.")
        self.mu = mu
        self.warmup_epochs = warmup_epochs
        self._epoch = 0
        self._sums: Tensor | None = None  # (2, T): losses and steps of the current warm-up epoch
        self._nadir: Tensor | None = None  # (T,), NaN for a task that has not been seen yet

    def name_tasks(self, tasks: Sequence[str]) -> None:
        """Start without known losses."""
        self._sums = torch.zeros(2, len(tasks))
        self._nadir = torch.full((len(tasks),), torch.nan)

    def begin_epoch(self, epoch: int) -> None:
        """Record the epoch of the next step, from 0; each warm-up epoch measures from scratch."""
        if epoch != self._epoch and self._sums is not None:
            self._sums = torch.zeros_like(self._sums)
        self._epoch = epoch

    def update_losses(self, losses: Tensor) -> None:
        """Measure the nadirs.

        Args:
            losses: Mean loss of each task in an optimizer step ``(T,)``, NaN for an absent task.
        """
        seen = ~losses.isnan()
        zeros = torch.zeros_like(losses)
        nadir = torch.full_like(losses, torch.nan) if self._nadir is None else self._nadir
        nadir = nadir.to(losses)
        if self._epoch < self.warmup_epochs:
            sums = torch.stack([zeros, zeros]) if self._sums is None else self._sums.to(losses)
            self._sums = sums + torch.stack([losses.nan_to_num(0.0), seen.to(losses)])
            total, count = self._sums
            self._nadir = torch.where(count > 0, total / count, nadir)
        else:
            self._nadir = torch.where(nadir.isnan(), losses, nadir)

    def forward(self, values: Tensor, /) -> Tensor:
        """Return the smooth maximum of the losses ``(T,)``; during warm-up, the sum of their logs.

        Raises:
            ValueError: If a loss is negative.
        """
        if bool((values < 0).any()):
            raise ValueError(f"`STCH` takes losses of 0 or more, got {float(values.min())}.")
        if self._epoch < self.warmup_epochs:
            return torch.log(values + _EPS).sum()
        nadir = values.detach() if self._nadir is None else self._nadir.to(values)
        nadir = torch.where(nadir.isnan(), values.detach(), nadir).clamp(min=_EPS)
        relative = torch.log(values / nadir + _EPS)
        return len(values) * self.mu * torch.logsumexp(relative / self.mu, dim=0)

    def __repr__(self) -> str:
        return f"STCH(mu={self.mu}, warmup_epochs={self.warmup_epochs})"
