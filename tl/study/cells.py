"""The cells of a study's table, from its run folders: scores by seed, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tl.report.delta_m import delta_m
from tl.report.intervals import Interval, mean_interval
from tl.study.folders import RunFolders
from tl.study.merging import merged, value_at
from tl.study.points import Point
from tl.study.schema import Study

DELTA = "Delta_m"


@dataclass(frozen=True)
class Budget:
    """What a run was given.

    Args:
        steps: Optimiser steps.
        images: Images in training, counted again in each epoch.
        trials: Trials of the search for its options.
    """

    steps: int | None
    images: int | None
    trials: int

    def __str__(self) -> str:
        """Write it in words."""
        return f"{self.steps} steps, {self.images} images, {self.trials} tuning trials"


@dataclass(frozen=True)
class Run:
    """A finished run of the report.

    Args:
        point: The run.
        metrics: Metrics by name, with ``Delta_m`` where there are baselines.
        budget: What it was given.
        seconds: Seconds of its training, without those before it was resumed.
        images_per_second: Speed of its training.
    """

    point: Point
    metrics: Mapping[str, float]
    budget: Budget
    seconds: float | None = None
    images_per_second: float | None = None


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
    """Read the finished runs of every stage, without the trials of a search.

    Raises:
        ValueError: If no finished run of the report logs a metric that is asked for.
    """
    runs = {}
    for name, point in points.items():
        if point.trial is None and folders.state(point) == "done":
            runs[name] = _read(study, point, folders)
    reported = [run for run in runs.values() if run.point.stage == study.report.stage]
    for metric in study.report.metrics if reported else ():
        if not any(metric in run.metrics for run in reported):
            known = sorted({name for run in reported for name in run.metrics})
            raise ValueError(f"No run logs {metric}; they log {', '.join(known) or 'nothing'}.")
    return _with_delta_m(study, runs)


def cells_of(study: Study, points: Mapping[str, Point], runs: Mapping[str, Run]) -> list[Cell]:
    """Sort the reported runs into the table's cells, in the order of the rows' values."""
    report, stage = study.report, study.stages[study.report.stage]
    wanted: dict[tuple[int, ...], int] = {}
    found: dict[tuple[int, ...], dict[Any, Run]] = {}
    for name, point in points.items():
        if point.stage != report.stage or point.trial is not None:
            continue
        key = tuple(stage.vary[axis].index(point.values[axis]) for axis in report.rows)
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


def _read(study: Study, point: Point, folders: RunFolders) -> Run:
    results = folders.results(point)
    metrics = {
        name: float(value)
        for name, value in (results.get("metrics") or {}).items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
    configuration = folders.configuration(point) or merged(point.configs, point.options)
    steps = results.get("steps")
    search = study.search
    tuned = search.trials if search is not None and point.stage == search.stage else 0
    size = _images_of_a_step(configuration)
    images = None if size is None or steps is None else size * int(steps)
    return Run(
        point,
        metrics,
        Budget(steps, images, tuned),
        results.get("seconds"),
        results.get("images_per_second"),
    )


def _images_of_a_step(configuration: Mapping[str, Any]) -> int | None:
    size = value_at(configuration, "data.init_args.batch_size")
    if not isinstance(size, int):
        return None
    sources = value_at(configuration, "data.init_args.sources")
    batches = value_at(configuration, "trainer.accumulate_grad_batches")
    count = len(sources) if isinstance(sources, Mapping) and sources else 1
    return size * count * (batches if isinstance(batches, int) else 1)


def _with_delta_m(  # noqa: C901 - two passes over the runs
    study: Study, runs: dict[str, Run]
) -> dict[str, Run]:
    """Add Delta_m against networks of one task each, of the same seed."""
    report = study.report
    if report.delta_m is None:
        return runs
    stage, axis = report.delta_m["stage"], report.delta_m["axis"]
    alone: dict[Any, dict[str, float]] = {}
    scores: dict[str, list[str]] = {}
    for metric in report.metrics:
        split, *middle, score = metric.split("/")
        if len(middle) == 1:
            scores.setdefault(middle[0], []).append(f"{split}/{score}")
    for run in runs.values():
        if run.point.stage == stage:
            task = str(run.point.values[axis])
            [metric] = scores.get(task, ["test/acc"])[:1]
            if metric in run.metrics:
                seed = run.point.values[report.pairs]
                alone.setdefault(seed, {})[task] = run.metrics[metric]
    found = dict(runs)
    for name, run in runs.items():
        base = alone.get(run.point.values.get(report.pairs), {})
        if run.point.stage != report.stage or set(base) != set(scores):
            continue
        values: dict[str, float] = {}
        for metric in report.metrics:
            _, *middle, _ = metric.split("/")
            if len(middle) == 1 and metric in run.metrics:
                values.setdefault(middle[0], run.metrics[metric])
        if set(values) == set(base):
            lower = [t for t in values if any(t in m.split("/") for m in report.lower_is_better)]
            change = delta_m(values, base, lower)
            found[name] = Run(
                run.point,
                {**run.metrics, DELTA: change},
                run.budget,
                run.seconds,
                run.images_per_second,
            )
    return found
