"""How much a step for one task lowers the loss of another: means over measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def first_order(gram: Tensor, losses: Tensor, rate: float) -> Tensor:
    """Return the affinity of tasks to first order in the step.

    ``Z(i -> j) = eta <g_i, g_j> / L_j``, the linear part of ``1 - L_j(theta - eta g_i) /
    L_j(theta)`` (Fifty et al., 2021, arXiv:2109.04617, equation 1).

    Args:
        gram: Inner products of the tasks' gradients ``(T, T)``.
        losses: Losses ``(T,)``, NaN of a task that the batch does not have.
        rate: Learning rate ``eta``.

    Returns:
        ``(T, T)`` float64: row i, column j; NaN in both of a task whose loss is NaN or 0.
    """
    losses = losses.double()
    return with_both_known(rate * gram.double() / losses[None, :], losses)


def with_both_known(affinity: Tensor, losses: Tensor) -> Tensor:
    """Put NaN into the rows and columns of tasks that have no loss.

    A task that the batch does not have has a zero gradient: without this, its row would count as
    an affinity of 0, although its column is not counted.

    Args:
        affinity: ``(T, T)``.
        losses: Losses ``(T,)``; NaN or 0 of a task that does not count.
    """
    unknown = losses.isnan() | (losses == 0)
    return affinity.masked_fill(unknown[:, None] | unknown[None, :], torch.nan)


def norms_of(gram: Tensor) -> Tensor:
    """Return the norms ``(T,)`` float64 from inner products ``(T, T)``; NaN if not finite."""
    norms = gram.double().diagonal().clamp(min=0).sqrt()
    return norms.masked_fill(~norms.isfinite(), torch.nan)


def cosines(gram: Tensor) -> Tensor:
    """Return cosines ``(T, T)`` from inner products; NaN where a gradient is zero or overflowed."""
    norms = norms_of(gram)
    product = norms[:, None] * norms[None, :]
    return (gram.double() / product.masked_fill(product == 0, torch.nan)).clamp(-1, 1)


class PairMeans:
    """Mean and standard error of values of pairs of tasks, also of each half of the measurements.

    The halves are the even and the odd measurements.

    Args:
        tasks: Names of the tasks.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = list(tasks)
        size = len(self.tasks)
        self.count = torch.zeros(2, size, size, dtype=torch.float64)
        self.means = torch.zeros_like(self.count)
        self.spreads = torch.zeros_like(self.count)  # sum of squared deviations
        self.seen = 0

    def add(self, values: Tensor) -> None:
        """Add a measurement ``(T, T)``; NaN is not counted."""
        half = self.seen % 2
        self.seen += 1
        values = values.double().cpu()
        known = values.isfinite()
        count, mean = self.count[half], self.means[half]
        count += known
        step = torch.where(known, values, mean) - mean
        mean += step / count.clamp(min=1)
        self.spreads[half] += step * (torch.where(known, values, mean) - mean)

    def half(self, number: int) -> Tensor:
        """Return the mean of the even (0) or odd (1) measurements ``(T, T)``; NaN without any."""
        return self.means[number].masked_fill(self.count[number] == 0, torch.nan)

    def mean(self) -> Tensor:
        """Return the mean ``(T, T)``; NaN without a measurement."""
        total = self.count.sum(0)
        mean = (self.count * self.means).sum(0) / total.clamp(min=1)
        return mean.masked_fill(total == 0, torch.nan)

    def error(self) -> Tensor:
        """Return the standard error of the mean ``(T, T)``; NaN with fewer than two."""
        total = self.count.sum(0)
        between = (self.count * (self.means - self.mean().nan_to_num(0)).square()).sum(0)
        variance = (self.spreads.sum(0) + between) / (total - 1).clamp(min=1)
        return (variance / total.clamp(min=1)).sqrt().masked_fill(total < 2, torch.nan)  # noqa: PLR2004

    def state(self) -> dict[str, Any]:
        """Return everything in plain types, for checkpoints."""
        return {
            "tasks": list(self.tasks),
            "seen": self.seen,
            "count": self.count.tolist(),
            "mean": self.means.tolist(),
            "spread": self.spreads.tolist(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> PairMeans:
        """Return the means in a checkpoint."""
        found = cls([str(task) for task in state["tasks"]])
        found.seen = int(state["seen"])
        found.count, found.means, found.spreads = (
            torch.tensor(state[key], dtype=torch.float64) for key in ("count", "mean", "spread")
        )
        return found

    def reliability(self) -> float:
        """Return how well the mean would repeat, at most 1; NaN without two measurements.

        Rank correlation of the two halves over pairs of different tasks, stepped up to the whole by
        Spearman and Brown: ``2 r / (1 + r)``.
        """
        r = rank_correlation(self.half(0), self.half(1))
        return r if r <= 0 else 2 * r / (1 + r)


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Return Spearman's correlation over pairs of different tasks; NaN if one does not vary.

    Args:
        one: ``(T, T)``.
        other: ``(T, T)``.
    """
    apart = ~torch.eye(len(one), dtype=torch.bool)
    kept = apart & one.isfinite() & other.isfinite()
    a, b = _ranks(one[kept]), _ranks(other[kept])
    a, b = a - a.mean(), b - b.mean()
    product = float(a.norm() * b.norm())
    return float(a @ b) / product if product > 0 else math.nan


def _ranks(values: Tensor) -> Tensor:
    """Return ranks; ties share their mean."""
    below = (values[None, :] < values[:, None]).sum(1)
    same = (values[None, :] == values[:, None]).sum(1)
    return below.double() + (same - 1).double() / 2
