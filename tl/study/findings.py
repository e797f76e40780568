"""What a study has found so far, in plain types too."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tl.report.intervals import finite
from tl.study.analysis import (
    Gain,
    Overall,
    Ranking,
    Single,
    gains_of,
    overall_of,
    ranking_of,
    single_of,
)
from tl.study.cells import Cell, Run, cells_of, directed, metrics_of, read_runs
from tl.study.dealing import Progress, progress_of
from tl.study.folders import RunFolders
from tl.study.points import Point, points_of
from tl.study.protocol import departures
from tl.study.schema import Study
from tl.study.searching import Tuned, tuned_of


@dataclass(frozen=True)
class StudyReport:
    """What a study has found so far.

    Args:
        study: The study.
        points: Its runs by name.
        progress: How far each is.
        failures: Why runs failed, by name.
        runs: The finished ones, trials of a search among them.
        cells: Cells of the table.
        gains: Gains by metric.
        overall: Methods over ten or more cells, by metric.
        rankings: Methods ranked over data sets, by metric; empty where none are named.
        single: Rows against the network of a metric's own task, by metric.
        tuned: What a search chose, by method.
        chosen: Options that a search gave a run, by its name.
        departures: Where the study departs from the rules for comparisons.
        damaged: What is wrong with the results of runs that count as unfinished, by name.
    """

    study: Study
    points: Mapping[str, Point]
    progress: Progress
    failures: Mapping[str, str]
    runs: Mapping[str, Run]
    cells: Sequence[Cell]
    gains: Mapping[str, Sequence[Gain]]
    overall: Mapping[str, Sequence[Overall]]
    rankings: Mapping[str, Ranking]
    single: Mapping[str, Single]
    tuned: Sequence[Tuned]
    chosen: Mapping[str, Mapping[str, Any]]
    departures: Sequence[str]
    damaged: Mapping[str, str]


def report_of(study: Study, out: Path) -> StudyReport:
    """Read what the runs of a study have left.

    Raises:
        ValueError: If no run logs a metric that is asked for.
    """
    points, folders = points_of(study), RunFolders(out)
    progress = progress_of(points, folders)
    failures = {n: folders.failure(points[n]) for n, s in progress.states.items() if s == "failed"}
    runs = read_runs(study, points, folders)
    study = directed(study, runs)
    cells = cells_of(study, points, runs)
    metrics = metrics_of(study)
    return StudyReport(
        study,
        points,
        progress,
        failures,
        runs,
        cells,
        {metric: gains_of(study, cells, metric) for metric in metrics},
        {metric: overall_of(study, cells, metric) for metric in metrics},
        {m: found for m in metrics if (found := ranking_of(study, cells, m)) is not None},
        {
            metric: alone
            for metric in study.report.metrics
            if (alone := single_of(study, cells, runs, metric)) is not None
        },
        tuned_of(points, folders, study.search),
        {} if study.search is None else {name: folders.chosen(points[name]) for name in points},
        departures(study, cells),
        {
            name: wrong
            for name, state in progress.states.items()
            if state == "unfinished" and (wrong := folders.damage(points[name]))
        },
    )


def status_line(report: StudyReport) -> str:
    """Say in a line how far the study is."""
    states = list(report.progress.states.values())
    parts = [f"{states.count('done')} of {len(states)} runs are done"]
    for state in ("pruned", "failed"):
        count = sum(each == state for each in states)
        parts += [f"{count} {state}"] if count else []
    if report.progress.blocked:
        parts.append(f"{len(report.progress.blocked)} wait for a failed one")
    return ", ".join(parts) + "."


def as_dict(report: StudyReport) -> dict[str, Any]:
    """Return the report in plain types; what seconds and machines differ in is in the CSV."""
    metrics = metrics_of(report.study)
    return {
        "study": report.study.name,
        "question": report.study.question,
        "status": status_line(report),
        "cells": [
            {
                "row": dict(cell.row),
                "seeds": list(cell.runs),
                "wanted": cell.wanted,
                "budgets": [vars(budget) for budget in cell.budgets],
                "metrics": {m: _cell_values(cell, m) for m in metrics if cell.values(m)},
            }
            for cell in report.cells
        ],
        "gains": [_gain(gain) for gains in report.gains.values() for gain in gains],
        "single": {
            metric: {
                "values": list(found.scores.values()),
                "gains": [_gain(gain) for gain in found.gains],
            }
            for metric, found in report.single.items()
        },
        "tuned": [vars(each) for each in report.tuned],
        "departures": list(report.departures),
        "overall": {
            metric: [vars(each) for each in found] for metric, found in report.overall.items()
        },
        "rankings": {
            metric: {"methods": [dict(m) for m in found.methods], **vars(found.ranks)}
            for metric, found in report.rankings.items()
        },
        "failed": dict(report.failures),
        "waiting_for_failed": dict(report.progress.blocked),
        "damaged": dict(report.damaged),
        "undefined": undefined_of(report),
        "no_delta_m": no_delta_m_of(report),
        "missing": [
            name
            for name, state in report.progress.states.items()
            if state == "unfinished" and name not in report.progress.blocked
        ],
    }


def undefined_of(report: StudyReport) -> dict[str, list[str]]:
    """Return which of the report's metrics are not finite, by run."""
    return {
        name: gone
        for name, run in report.runs.items()
        if run.point.trial is None
        and (gone := [m for m in report.study.report.metrics if m in run.undefined])
    }


def no_delta_m_of(report: StudyReport) -> dict[str, str]:
    """Return why Delta_m cannot be computed, by run."""
    return {name: run.no_delta_m for name, run in report.runs.items() if run.no_delta_m}


def _gain(gain: Gain) -> dict[str, Any]:
    return {
        "row": dict(gain.row),
        "metric": gain.metric,
        **{k: finite(v) for k, v in vars(gain.difference).items()},
        "p_holm": gain.p,
        "verdict": gain.verdict,
        "unequal_budget": gain.budget or None,
    }


def _cell_values(cell: Cell, metric: str) -> dict[str, Any]:
    interval = cell.interval(metric)
    return {
        "values": list(cell.values(metric).values()),
        "mean": None if interval is None else interval.mean,
        "half_width": None if interval is None else finite(interval.half_width),
    }


def runs_csv(report: StudyReport) -> str:
    """Write the raw numbers of every run, a row each."""
    axes = list(dict.fromkeys(axis for point in report.points.values() for axis in point.values))
    names = sorted({name for run in report.runs.values() for name in run.metrics})
    axes += [key for key in getattr(report.study.search, "over", ()) if key not in axes]
    costs = ["steps", "samples", "trials", "seconds", "samples_per_second"]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "stage", "state", "trial", *axes, *costs, *names])
    for name, point in report.points.items():
        run = report.runs.get(name)
        cost: list[Any] = [""] * len(costs)
        if run is not None:
            budget = run.budget
            cost = [
                budget.steps,
                budget.samples,
                budget.trials,
                run.seconds,
                run.samples_per_second,
            ]
        writer.writerow(
            [
                *(name, point.stage, report.progress.states[name]),
                "" if point.trial is None else point.trial,
                *({**report.chosen.get(name, {}), **point.values}.get(axis, "") for axis in axes),
                *cost,
                *((run.metrics.get(metric, "") for metric in names) if run else [""] * len(names)),
            ]
        )
    return text.getvalue()
