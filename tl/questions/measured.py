"""Scores against measured fine-tuning: weighted rank correlation and what chance would give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

#: Sources below which a correlation tells too little.
FEWEST_SOURCES = 8
_DRAWS = 2000
_Values = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """What fine-tuning from sources reached.

    Args:
        values: Mean over the runs from each source, by its name.
        lower_is_better: Whether a lower value is better.
        metric: The metric; empty if it is not known.
        study: The study file; empty if there is none.
        runs: Number of runs by source.
        done: Runs of the study that count and are finished.
        total: Runs that count.
    """

    values: Mapping[str, float]
    lower_is_better: bool = False
    metric: str = ""
    study: str = ""
    runs: Mapping[str, int] = field(default_factory=dict)
    done: int = 0
    total: int = 0

    def __str__(self) -> str:
        """Say what was measured, and on how many runs."""
        counts = sorted({*self.runs.values()})
        each = " to ".join(str(n) for n in (counts if len(counts) < 3 else (counts[0], counts[-1])))  # noqa: PLR2004
        runs = "run" if each == "1" else "runs"
        said = f"measured: {self.metric} of {self.study}, mean of {each} {runs} from a source"
        said += ", lower is better" if self.lower_is_better else ""
        if self.done < self.total:
            said += f"; only {self.done} of {self.total} such runs of the study are finished"
        return said


@dataclass(frozen=True)
class Agreement:
    """How a column of scores agrees with measured results.

    Args:
        column: The column.
        tau: Weighted Kendall tau, -1 to 1; NaN where the column or the results are constant.
        low: Lower bound of the interval that 95 % of unrelated columns have.
        high: Its upper bound.
        sources: Number of sources with both.
    """

    column: str
    tau: float
    low: float
    high: float
    sources: int

    @property
    def beyond_chance(self) -> bool:
        """Whether tau lies outside of the interval."""
        return not math.isnan(self.tau) and not self.low <= self.tau <= self.high


def weighted_tau(scores: _Values, results: _Values) -> float:
    """Return Kendall's tau with hyperbolic weights: the best ranks count most (Vigna, 2015).

    A pair of ranks r and s, from 0, weighs ``1 / (r + 1) + 1 / (s + 1)``; the result is the mean of
    those by the ranks of either side. Tied pairs count as in tau-b.

    Args:
        scores: One per source.
        results: One per source, in the same order.

    Returns:
        -1 to 1; NaN where all of one side are equal.
    """
    x, y = np.asarray(scores, float), np.asarray(results, float)
    return float(np.mean([_tau(x, y, _ranks(x, y)), _tau(x, y, _ranks(y, x))]))


def _ranks(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each source from 0, the best first; `second` breaks ties."""
    order = np.lexsort((second, first))[::-1]
    ranks = np.empty(len(order))
    ranks[order] = np.arange(len(order))
    return ranks


def _tau(x: NDArray[np.float64], y: NDArray[np.float64], ranks: NDArray[np.float64]) -> float:
    upper = np.triu_indices(len(x), 1)
    weight = 1 / (ranks + 1)
    pairs = (weight[:, None] + weight[None, :])[upper]
    dx, dy = (np.sign(v[:, None] - v[None, :])[upper] for v in (x, y))
    spread = math.sqrt(float((pairs * dx**2).sum()) * float((pairs * dy**2).sum()))
    return float((pairs * dx * dy).sum()) / spread if spread > 0 else math.nan


def agreement(column: str, scores: _Values, results: _Values, seed: int = 0) -> Agreement:
    """Compare a column with measured results, and with columns of no relation to them.

    Args:
        column: Its name.
        scores: One per source.
        results: One per source, in the same order.
        seed: Of the permutations.
    """
    generator = np.random.default_rng(seed)
    x, y = np.asarray(scores, float), np.asarray(results, float)
    tau = weighted_tau(x, y)
    if math.isnan(tau):
        return Agreement(column, tau, math.nan, math.nan, len(x))
    chance = [weighted_tau(x, generator.permutation(y)) for _ in range(_DRAWS)]
    low, high = np.quantile(chance, [0.025, 0.975])
    return Agreement(column, tau, float(low), float(high), len(x))
