"""What a study file holds: a question, its stages, an optional search and a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SAME = "same"
SAMPLERS = ("tpe", "random")
FEWEST_DATA_SETS = 5  # over which methods are ranked (Demsar, 2006)


@dataclass(frozen=True)
class Overlay:
    """What a named value of an axis adds to a run.

    Args:
        configs: Further configuration files.
        options: Further options by dotted name.
    """

    configs: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """Runs that differ in the values of some axes.

    Args:
        name: Its name.
        configs: Configuration files, a later one adding to those before it.
        vary: Values by axis; an axis is an option or, with overlays, a free name.
        overlays: Overlay by axis and value, for axes with overlays.
        needs: By needed stage, the value of each of its axes; ``same`` takes the run's own.
        options: Options of every run of the stage; may hold ``{stage.best}``.
        exceptions: Options by axis and value that replace those above.
    """

    name: str
    configs: tuple[str, ...]
    vary: Mapping[str, tuple[Any, ...]]
    overlays: Mapping[str, Mapping[Any, Overlay]]
    needs: Mapping[str, Mapping[str, Any]]
    options: Mapping[str, Any]
    exceptions: Mapping[str, Mapping[Any, Mapping[str, Any]]]


@dataclass(frozen=True)
class Range:
    """An option's range in a search.

    Args:
        low: Smallest value.
        high: Largest value.
        log: Uniform in the logarithm.
    """

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Search:
    """The same number of trials for each method, chosen by a validation metric.

    Args:
        stage: Stage whose runs are tuned.
        over: Range, or list of plain values, by option.
        trials: Number of trials per method.
        per: Axes, each combination of whose values is tuned by itself; by default all that vary
            but the seed.
        metric: Metric on ``val/``.
        seed: Seed of the trials' runs and of the sampler; not one of the study's.
        sampler: ``tpe`` or ``random``.
        pruning: Stop a trial that is below the median of the earlier ones at the same step.
        lower_is_better: Whether a lower value of the metric is better.
    """

    stage: str
    over: Mapping[str, Range | tuple[Any, ...]]
    trials: int
    per: tuple[str, ...]
    metric: str
    seed: int
    sampler: str = "tpe"
    pruning: bool = False
    lower_is_better: bool = False


@dataclass(frozen=True)
class Report:
    """What is compared.

    Args:
        stage: Stage whose runs are compared.
        metrics: Metrics by name, the first being the one of claims and figures.
        rows: Axes of the table's rows.
        against: Value by axis of what the others are compared with; empty for no comparison.
        pairs: Axis over whose values runs are paired, the seed.
        lower_is_better: Metrics whose lower values are better.
        delta_m: Stage of the networks trained on one task each, and the axis that names the task.
        data_sets: Row whose values are data sets, over five or more of which methods are ranked.
    """

    stage: str
    metrics: tuple[str, ...]
    rows: tuple[str, ...]
    against: Mapping[str, Any]
    pairs: str
    lower_is_better: tuple[str, ...] = ()
    delta_m: Mapping[str, str] | None = None
    data_sets: str | None = None


@dataclass(frozen=True)
class Study:
    """A study file.

    Args:
        path: The file.
        question: What it asks.
        stages: Stages in the order of their needs.
        report: What is compared.
        search: The search, if there is one.
    """

    path: Path
    question: str
    stages: Mapping[str, Stage]
    report: Report
    search: Search | None = None

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem
