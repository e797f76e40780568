"""What seeds can tell: paired differences, Holm's correction, and scores over many cells.

Needs scipy, which comes with the extra ``study``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tl.study.schema import FEWEST_DATA_SETS

Scores = NDArray[np.float64]
LEVEL = 0.05
FEWEST_CELLS = 10


@dataclass(frozen=True)
class Paired:
    """Differences of two methods over the same seeds.

    Args:
        mean: Mean difference.
        half_width: Half-width of its 95 % interval by Student's t; ``inf`` for a single pair.
        p: p-value of the two-sided paired t-test; of the sign test where all differences are the
            same; 1 where it cannot be told.
        count: Number of pairs.
        smallest: The smallest mean difference that could have been told from 0 with this spread;
            ``inf`` where there is none.
    """

    mean: float
    half_width: float
    p: float
    count: int
    smallest: float


def paired(values: Sequence[float], reference: Sequence[float], comparisons: int = 1) -> Paired:
    """Compare two methods seed by seed (Student, 1908).

    Args:
        values: Scores of a method, one per seed.
        reference: Scores of the other method, for the same seeds in the same order.
        comparisons: What the level is divided by (see :func:`deciding_steps`);
            :attr:`Paired.smallest` is at the level ``0.05 / comparisons``.

    Raises:
        ValueError: If the numbers differ or are 0.
    """
    if len(values) != len(reference) or not values:
        raise ValueError(f"Pairs need equal counts, got {len(values)} and {len(reference)}.")
    differences = np.asarray(values, float) - np.asarray(reference, float)
    count, mean = len(differences), float(differences.mean())
    if count == 1:
        return Paired(mean, math.inf, 1.0, 1, math.inf)
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    freedom = count - 1
    if error <= abs(mean) * 1e-12:  # one value, but for rounding
        # Student's t needs a spread: the sign test's smallest p-value is what equal signs are worth
        return Paired(mean, 0.0, 1.0 if mean == 0 else 2.0 ** (1 - count), count, math.inf)
    half = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, freedom))
    smallest = float(stats.t.ppf(1 - LEVEL / 2 / max(1, comparisons), freedom)) * error
    return Paired(mean, half, p, count, smallest)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number (Holm, 1979): step down, never below an earlier one.

    Args:
        p_values: One per comparison.

    Returns:
        Adjusted p-values in the same order; those under 0.05 hold together at that level.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def deciding_steps(p_values: Sequence[float]) -> list[int]:
    """Return by what the level is divided where Holm's procedure decides on each comparison.

    It rejects one hypothesis after the other and stops at the first that it keeps, whose level
    stands for all that are left: exactly those p-values are told that are below 0.05 over this.

    Args:
        p_values: One per comparison; of equal ones the earlier one comes first.
    """
    told = sum(p < LEVEL for p in holm(p_values))
    steps = [0] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        steps[index] = len(p_values) - min(rank, told)
    return steps


def interquartile_mean(scores: Sequence[float] | Scores) -> float:
    """Mean of the middle half of all scores (Agarwal et al., 2021, arXiv:2108.13264).

    Args:
        scores: Scores of any shape.
    """
    return float(stats.trim_mean(np.asarray(scores, float).ravel(), 0.25))


def bootstrap_interval(
    cells: Sequence[Sequence[float]], seed: int = 0, resamples: int = 2000
) -> tuple[float, float, float]:
    """Interquartile mean with its 95 % interval by a stratified bootstrap (Agarwal et al., 2021).

    Runs are drawn with replacement within each cell.

    Args:
        cells: Scores by cell, one per seed.
        seed: Seed of the draws.
        resamples: Number of draws.

    Returns:
        Mean, lower and upper bound.
    """
    generator = np.random.default_rng(seed)
    drawn = [
        np.asarray(cell, float)[generator.integers(0, len(cell), (resamples, len(cell)))]
        for cell in cells
    ]
    together = np.concatenate(drawn, axis=1)  # (resamples, runs)
    means = stats.trim_mean(together, 0.25, axis=1)
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    every = np.concatenate([np.asarray(cell, float) for cell in cells])
    return interquartile_mean(every), float(low), float(high)


def probability_of_improvement(
    cells: Sequence[Sequence[float]], reference: Sequence[Sequence[float]]
) -> float:
    """Probability that a run of one method beats one of another, over cells (Agarwal et al., 2021).

    The mean over cells of Mann-Whitney's U over ``n m``; ties count one half.

    Args:
        cells: Scores of a method by cell.
        reference: Scores of the other method by cell, in the same order.
    """
    found = []
    for values, others in zip(cells, reference, strict=True):
        left, right = np.asarray(values, float)[:, None], np.asarray(others, float)[None]
        found.append(float(((left > right) + 0.5 * (left == right)).mean()))
    return sum(found) / len(found)


def performance_profile(
    cells: Sequence[Sequence[float]], thresholds: Sequence[float]
) -> list[float]:
    """Share of runs above each threshold, each cell with the same weight (Dolan & More, 2002)."""
    return [
        float(np.mean([np.mean(np.asarray(cell, float) > threshold) for cell in cells]))
        for threshold in thresholds
    ]


@dataclass(frozen=True)
class Ranks:
    """Methods ranked over data sets.

    Args:
        mean_ranks: Mean rank by method, 1 being the best.
        critical_difference: Mean ranks that differ by less cannot be told apart (Nemenyi).
        p: p-value of Friedman's test, of two methods of Wilcoxon's.
        data_sets: Number of data sets.
    """

    mean_ranks: tuple[float, ...]
    critical_difference: float
    p: float
    data_sets: int


def critical_difference(scores: Sequence[Sequence[float]]) -> Ranks:
    """Rank methods over data sets, with Nemenyi's critical difference (Demsar, 2006).

    ``q sqrt(k (k + 1) / (6 N))`` with ``q`` the quantile of the studentized range over sqrt(2).

    Args:
        scores: By data set, one score per method; the higher is the better one.

    Raises:
        ValueError: If there are fewer than five data sets (seeds are not data sets), or two
            methods.
    """
    table = np.asarray(scores, float)
    data_sets, methods = table.shape
    if data_sets < FEWEST_DATA_SETS:
        raise ValueError(
            f"Ranks need {FEWEST_DATA_SETS} data sets or more, got {data_sets}; seeds do not count."
        )
    if methods < 2:  # noqa: PLR2004 - ranks of what
        raise ValueError("Ranks need two methods or more.")
    ranks = stats.rankdata(-table, axis=1).mean(axis=0)
    quantile = float(stats.studentized_range.ppf(1 - LEVEL, methods, np.inf)) / math.sqrt(2)
    width = quantile * math.sqrt(methods * (methods + 1) / (6 * data_sets))
    if not np.ptp(table, axis=1).any():
        p = 1.0  # all are equal on every data set, of which the tests make 0 / 0
    elif methods > 2:  # noqa: PLR2004 - Friedman's test needs three
        p = float(stats.friedmanchisquare(*table.T).pvalue)
    else:
        p = float(stats.wilcoxon(table[:, 0], table[:, 1]).pvalue)
    return Ranks(tuple(float(rank) for rank in ranks), width, p, data_sets)
