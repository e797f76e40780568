"""The cells of a study's table, from its run folders: scores by seed, and what they cost."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tl.report.delta_m import delta_m
from tl.report.intervals import Interval, mean_interval
from tl.study.checks import key_of
from tl.study.conditions import Conditions, conditions_of
from tl.study.folders import RunFolders
from tl.study.merging import merged, value_at
from tl.study.points import Point
from tl.study.schema import Study
from tl.study.single import all_of, alone_of, by_task

DELTA = "Delta_m"


@dataclass(frozen=True)
class Budget:
    """What a run was given.

    Args:
        steps: Optimiser steps.
        samples: Images or texts in training, counted again in each epoch.
        trials: Trials of the search for its options.
    """

    steps: int | None
    samples: int | None
    trials: int

    def __str__(self) -> str:
        """Write it in words."""
        return f"{self.steps} steps, {self.samples} samples, {self.trials} tuning trials"


@dataclass(frozen=True)
class Run:
    """A finished run of the report.

    Args:
        point: The run.
        metrics: Metrics by name, with ``Delta_m`` where there are baselines.
        scores: By task, which way its scores are better: ``min`` or ``max``.
        undefined: Metrics that it logs and that are not finite.
        no_delta_m: Why its ``Delta_m`` cannot be computed; empty where it can.
        budget: What it was given.
        sources: Number of its sources, each of which has an equal share of the samples.
        conditions: What the rules for comparisons ask of it besides its budget.
        seconds: Seconds of its training, without those before it was resumed.
        samples_per_second: Speed of its training.
    """

    point: Point
    metrics: Mapping[str, float]
    budget: Budget
    seconds: float | None = None
    samples_per_second: float | None = None
    scores: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    undefined: tuple[str, ...] = ()
    no_delta_m: str = ""
    sources: int = 1
    conditions: Conditions = field(default_factory=Conditions)

    @property
    def budget_of_a_task(self) -> Budget:
        """What each of its tasks was given; tasks of one source share its samples."""
        samples = self.budget.samples
        return replace(self.budget, samples=None if samples is None else samples // self.sources)


@dataclass(frozen=True)
class Cell:
    """Runs that differ in their seed only.

    Args:
        row: Value by axis of the report's rows.
        runs: Finished run by seed.
        wanted: Number of runs that the study asks for.
    """

    row: Mapping[str, Any]
    runs: Mapping[Any, Run]
    wanted: int

    def values(self, metric: str) -> dict[Any, float]:
        """Return a metric by seed, of the runs that have it."""
        return {s: run.metrics[metric] for s, run in self.runs.items() if metric in run.metrics}

    def interval(self, metric: str) -> Interval | None:
        """Return a metric's mean and interval; ``None`` without runs."""
        values = list(self.values(metric).values())
        return mean_interval(values) if values else None

    @property
    def budgets(self) -> list[Budget]:
        """The different budgets of its runs."""
        return list(dict.fromkeys(run.budget for run in self.runs.values()))


def metrics_of(study: Study) -> tuple[str, ...]:
    """Return the report's metrics, ``Delta_m`` last where it is asked for."""
    return (*study.report.metrics, *([DELTA] if study.report.delta_m else []))


def read_runs(study: Study, points: Mapping[str, Point], folders: RunFolders) -> dict[str, Run]:
    """Read the finished runs of every stage, trials of a search among them.

    Raises:
        ValueError: If no finished run of the report logs a metric that is asked for.
    """
    runs = {}
    for name, point in points.items():
        if folders.state(point) == "done":
            runs[name] = _read(point, points, folders)
    reported = [run for run in runs.values() if is_reported(study, run.point)]
    for metric in study.report.metrics if reported else ():
        if not any(metric in (*run.metrics, *run.undefined) for run in reported):
            known = sorted({name for run in reported for name in run.metrics})
            raise ValueError(f"No run logs {metric}; they log {', '.join(known) or 'nothing'}.")
    return _with_delta_m(study, runs)


def cells_of(study: Study, points: Mapping[str, Point], runs: Mapping[str, Run]) -> list[Cell]:
    """Sort the reported runs into the table's cells, in the order of the rows' values."""
    report, stage = study.report, study.stages[study.report.stage]
    places = {
        axis: {key_of(value): i for i, value in enumerate(stage.vary[axis])} for axis in report.rows
    }
    wanted: dict[tuple[int, ...], int] = {}
    found: dict[tuple[int, ...], dict[Any, Run]] = {}
    for name, point in points.items():
        if not is_reported(study, point):
            continue
        key = tuple(places[axis][key_of(point.values[axis])] for axis in report.rows)
        wanted[key] = wanted.get(key, 0) + 1
        cell = found.setdefault(key, {})
        if name in runs:
            cell[point.values[report.pairs]] = runs[name]
    return [
        Cell(
            {axis: stage.vary[axis][i] for axis, i in zip(report.rows, key, strict=True)},
            found[key],
            wanted[key],
        )
        for key in sorted(found)
    ]


def is_reported(study: Study, point: Point) -> bool:
    """Tell whether a run is one of the report's table."""
    return point.stage == study.report.stage and point.trial is None


def _read(point: Point, points: Mapping[str, Point], folders: RunFolders) -> Run:
    results = folders.results(point)
    best = (results.get("best") or {}).get("metrics") or {}
    # of the best checkpoint, which is the one that is tested, and not of the last epoch
    chosen = {name: value for name, value in best.items() if name.startswith("val/")}
    logged = {**(results.get("metrics") or {}), **chosen}
    metrics = {
        name: float(value)
        for name, value in logged.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    configuration = folders.configuration(point) or merged(point.configs, point.options)
    steps = results.get("steps")
    trials = [points[name] for key, name in point.needs.items() if key.startswith("trial ")]
    tuned = sum(folders.state(trial) in ("done", "pruned") for trial in trials)
    size, sources = _samples_of_a_step(configuration), _sources_in(configuration)
    samples = None if size is None or steps is None else size * int(steps)
    return Run(
        point,
        metrics,
        Budget(steps, samples, tuned),
        results.get("seconds"),
        results.get("images_per_second"),
        results.get("scores") or {},
        tuple(name for name in logged if name not in metrics),
        sources=sources,
        conditions=conditions_of(results, configuration),
    )


def _samples_of_a_step(configuration: Mapping[str, Any]) -> int | None:
    size = value_at(configuration, "data.init_args.batch_size")
    if not isinstance(size, int):
        return None
    batches = value_at(configuration, "trainer.accumulate_grad_batches")
    return size * _sources_in(configuration) * (batches if isinstance(batches, int) else 1)


def _sources_in(configuration: Mapping[str, Any]) -> int:
    sources = value_at(configuration, "data.init_args.sources")
    return len(sources) if isinstance(sources, Mapping) and sources else 1


def directed(study: Study, runs: Mapping[str, Run]) -> Study:
    """Return a study whose report knows which of its metrics are better when lower.

    The runs tell of their scores; of other metrics the study file does.

    Raises:
        ValueError: If the study file says another thing than the runs.
    """
    report, lower = study.report, []
    for metric in report.metrics:
        task = metric.split("/")[1] if metric.count("/") > 1 else metric
        said = metric in report.lower_is_better or task in report.lower_is_better
        known = direction_of(metric, runs, report.stage)
        if said and known == "max":
            raise ValueError(
                f"`report.lower_is_better` names {metric}, which is better when higher; leave it "
                "out."
            )
        lower += [metric] if said or known == "min" else []
    others = [name for name in report.lower_is_better if name not in report.metrics]
    return replace(study, report=replace(report, lower_is_better=(*lower, *others)))


def score_of(metric: str) -> str:
    """Return a metric's score: ``acc`` of ``test/acc`` and ``val/target/oracle_acc_at_best``."""
    last = metric.rpartition("/")[2]
    return re.sub(r"^oracle_(.+?)(_at_(chosen|best))?$", r"\1", last).removeprefix("knn_")


def direction_of(metric: str, runs: Mapping[str, Run], stage: str) -> str | None:
    """Return ``min`` or ``max`` as the runs of a stage tell, ``None`` where none does."""
    _, *middle, _ = metric.split("/")
    score = score_of(metric)
    if score == "loss":
        return "min"
    for run in runs.values():
        if run.point.stage == stage:
            tasks = [run.scores.get(middle[0], {})] if middle else list(run.scores.values())
            ways = {ways[score] for ways in tasks if score in ways}
            if len(ways) == 1:
                return ways.pop()
    return None


def _with_delta_m(study: Study, runs: dict[str, Run]) -> dict[str, Run]:
    """Add Delta_m against networks of one task each, of the same seed.

    Of a task with several metrics all count, except its loss. A run whose baseline is not positive
    has none, and says why.
    """
    report = directed(study, runs).report
    if report.delta_m is None:
        return runs
    asked = by_task(report.metrics)
    alone = alone_of(report, runs, asked)
    lower = [
        f"{task}/{score}"
        for task, scores in asked.items()
        for score, metric in scores.items()
        if any(name in (task, metric) for name in report.lower_is_better)
    ]
    found = dict(runs)
    for name, run in runs.items():
        base = alone.get(run.point.values.get(report.pairs), {})
        if not is_reported(study, run.point) or set(base) != set(asked):
            continue
        reached = {task: all_of(scores, run.metrics) for task, scores in asked.items()}
        if not all(reached.values()):
            continue
        try:
            change = delta_m(reached, base, lower)
        except ValueError as error:
            found[name] = replace(run, no_delta_m=str(error))
        else:
            found[name] = replace(run, metrics={**run.metrics, DELTA: change})
    return found
