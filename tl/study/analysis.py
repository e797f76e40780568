"""From cells to an answer: gains over what they are compared with, and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tl.study.cells import Budget, Cell, Run
from tl.study.checks import key_of
from tl.study.schema import Study
from tl.study.single import plain, single_runs
from tl.study.statistics import (
    FEWEST_CELLS,
    LEVEL,
    Paired,
    Ranks,
    bootstrap_interval,
    critical_difference,
    deciding_steps,
    holm,
    paired,
    performance_profile,
    probability_of_improvement,
)


@dataclass(frozen=True)
class Gain:
    """A row against its reference, paired by seed.

    Args:
        row: Value by axis.
        metric: The metric.
        difference: Mean difference and what it is worth; positive is better.
        p: p-value after Holm's correction over the metric's comparisons.
        budget: How its budget differs from the reference's; empty where they are equal.
    """

    row: Mapping[str, Any]
    metric: str
    difference: Paired
    p: float
    budget: str = ""

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, or ``cannot be told``."""
        if self.p >= LEVEL or self.difference.count < 2:  # noqa: PLR2004 - a spread needs two
            return "cannot be told"
        return "better" if self.difference.mean > 0 else "worse"


@dataclass(frozen=True)
class Overall:
    """A method over ten or more cells.

    Args:
        value: The method.
        interquartile_mean: Mean of the middle half of its runs.
        low: Lower bound of its 95 % interval.
        high: Upper bound.
        improvement: Probability that one of its runs beats one of the reference.
        profile: Share of runs above each threshold.
    """

    value: Any
    interquartile_mean: float
    low: float
    high: float
    improvement: float
    profile: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Ranking:
    """Methods ranked over data sets.

    Args:
        methods: Value by axis of each method.
        ranks: Their ranks, in the same order.
    """

    methods: tuple[Mapping[str, Any], ...]
    ranks: Ranks

    @property
    def order(self) -> list[int]:
        """The methods' places, the best one first."""
        return sorted(range(len(self.methods)), key=lambda i: self.ranks.mean_ranks[i])

    @property
    def cliques(self) -> list[list[int]]:
        """The largest groups whose mean ranks differ by less than the critical difference."""
        mean, order = self.ranks.mean_ranks, self.order
        groups = [
            [b for b in order[a:] if mean[b] - mean[order[a]] < self.ranks.critical_difference]
            for a in range(len(order))
        ]
        return [
            g for i, g in enumerate(groups) if len(g) > 1 and not (i and g[-1] in groups[i - 1])
        ]


def ranking_of(study: Study, cells: Sequence[Cell], metric: str) -> Ranking | None:
    """Rank the methods over the report's data sets; ``None`` before every cell is complete."""
    axis = study.report.data_sets
    if axis is None:
        return None
    sign = -1 if metric in study.report.lower_is_better else 1
    scores: dict[str, dict[str, float]] = {}
    methods: dict[str, Mapping[str, Any]] = {}
    for cell in cells:
        values = list(cell.values(metric).values())
        if len(values) < cell.wanted:
            return None
        method = {key: value for key, value in cell.row.items() if key != axis}
        methods[repr(method)] = method
        mean = sign * sum(values) / len(values)
        scores.setdefault(repr(cell.row[axis]), {})[repr(method)] = mean
    if len(methods) < 2 or any(set(found) != set(methods) for found in scores.values()):  # noqa: PLR2004 - ranks of what
        return None
    table = [[found[method] for method in methods] for found in scores.values()]
    return Ranking(tuple(methods.values()), critical_difference(table))


def gains_of(study: Study, cells: Sequence[Cell], metric: str) -> list[Gain]:
    """Compare every row with its reference, seed by seed."""
    rows = []
    for cell in cells:
        reference = reference_of(study, cells, cell)
        if reference is not None and reference is not cell:
            budget = budget_difference(cell.budgets, reference.budgets)
            rows.append((cell, reference.values(metric), budget))
    return _gains(study, metric, rows)


@dataclass(frozen=True)
class Single:
    """Rows against a network of one task, which none of the other tasks shares.

    Args:
        scores: The metric of that network, by seed.
        gains: The rows against it.
    """

    scores: Mapping[Any, float]
    gains: Sequence[Gain]


def single_of(
    study: Study, cells: Sequence[Cell], runs: Mapping[str, Run], metric: str
) -> Single | None:
    """Compare every row with the task's own network; ``None`` where the study trains none."""
    if study.report.delta_m is None:
        return None
    alone = single_runs(study.report, runs).get(metric.split("/")[1], {})
    name = plain(metric)
    scores = {seed: run.metrics[name] for seed, run in alone.items() if name in run.metrics}
    theirs = list(dict.fromkeys(run.budget for run in alone.values()))
    rows = []
    for cell in cells:
        ours = list(dict.fromkeys(run.budget_of_a_task for run in cell.runs.values()))
        rows.append((cell, scores, budget_difference(ours, theirs)))
    return Single(scores, _gains(study, metric, rows))


def _gains(
    study: Study, metric: str, rows: Sequence[tuple[Cell, Mapping[Any, float], str]]
) -> list[Gain]:
    """Compare cells with scores by seed, and correct for the number of comparisons."""
    sign = -1 if metric in study.report.lower_is_better else 1
    pairs: list[tuple[Cell, str, list[float], list[float]]] = []
    for cell, others, budget in rows:
        values = cell.values(metric)
        if seeds := [seed for seed in values if seed in others]:
            ours = [sign * values[seed] for seed in seeds]
            pairs.append((cell, budget, ours, [sign * others[seed] for seed in seeds]))
    p_values = [paired(values, others).p for _, _, values, others in pairs]
    steps = deciding_steps(p_values)
    return [
        Gain(cell.row, metric, paired(values, others, step), p, budget)
        for (cell, budget, values, others), step, p in zip(
            pairs, steps, holm(p_values), strict=True
        )
    ]


def reference_of(study: Study, cells: Sequence[Cell], cell: Cell) -> Cell | None:
    """Return the cell that one is compared with; ``None`` where nothing is compared."""
    against = study.report.against
    if not against:
        return None
    wanted = {**cell.row, **against}
    return next((other for other in cells if other.row == wanted), None)


def budget_difference(ours: Sequence[Budget], theirs: Sequence[Budget]) -> str:
    """Say how two cells' budgets differ; empty where they are equal."""
    if not ours or not theirs or (set(ours) == set(theirs) and len(ours) == 1):
        return ""
    return f"{' or '.join(map(str, ours))}, against {' or '.join(map(str, theirs))}"


def overall_of(study: Study, cells: Sequence[Cell], metric: str) -> list[Overall]:
    """Summarise each method over its cells; empty with fewer than ten cells or no reference."""
    report = study.report
    if len(report.against) != 1:
        return []
    [(axis, reference)] = report.against.items()
    sign = -1 if metric in report.lower_is_better else 1
    scores: dict[str, list[list[float]]] = {}
    named = {key_of(cell.row[axis]): cell.row[axis] for cell in cells}
    for cell in cells:
        values = [sign * value for value in cell.values(metric).values()]
        if len(values) < cell.wanted:
            return []  # unequal sets of cells are not compared
        scores.setdefault(key_of(cell.row[axis]), []).append(values)
    if len(scores.get(key_of(reference), ())) < FEWEST_CELLS:
        return []
    every = [value for method in scores.values() for cell in method for value in cell]
    low, high = min(every), max(every)
    thresholds = [low + (high - low) * i / 20 for i in range(21)]
    found = []
    for key, method in scores.items():
        mean, lower, upper = bootstrap_interval(method)
        better = probability_of_improvement(method, scores[key_of(reference)])
        profile = zip(thresholds, performance_profile(method, thresholds), strict=True)
        bounds = (lower, upper) if sign > 0 else (-upper, -lower)
        found.append(
            Overall(
                named[key],
                sign * mean,
                *bounds,
                better,
                tuple((sign * t, s) for t, s in profile),
            )
        )
    return found
