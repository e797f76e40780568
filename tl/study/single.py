"""Scores of networks that were trained on one task each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tl.study.cells import Run
    from tl.study.schema import Report


def by_task(metrics: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return metrics by task and score; a loss only where a task has nothing else."""
    asked: dict[str, dict[str, str]] = {}
    for metric in metrics:
        match metric.split("/"):
            case [_, task, score]:
                asked.setdefault(task, {})[score] = metric
    for scores in asked.values():
        if len(scores) > 1:
            scores.pop("loss", None)
    return asked


def single_runs(report: Report, runs: Mapping[str, Run]) -> dict[str, dict[Any, Run]]:
    """Return the runs of networks of one task each, by task and seed."""
    found: dict[str, dict[Any, Run]] = {}
    if report.delta_m is not None:
        stage, axis = report.delta_m["stage"], report.delta_m["axis"]
        for run in runs.values():
            if run.point.stage == stage and run.point.trial is None:
                task = str(run.point.values[axis])
                found.setdefault(task, {})[run.point.values[report.pairs]] = run
    return found


def plain(metric: str) -> str:
    """Return the name by which the network of one task logs that task's metric."""
    split, _, score = metric.split("/")
    return f"{split}/{score}"


def alone_of(
    report: Report, runs: Mapping[str, Run], asked: Mapping[str, Mapping[str, str]]
) -> dict[Any, dict[str, dict[str, float]]]:
    """Return scores by seed and task of the networks of one task each."""
    found: dict[Any, dict[str, dict[str, float]]] = {}
    for task, by_seed in single_runs(report, runs).items():
        names = {score: plain(metric) for score, metric in asked.get(task, {}).items()}
        for seed, run in by_seed.items():
            if names and (values := all_of(names, run.metrics)):
                found.setdefault(seed, {})[task] = values
    return found


def all_of(names: Mapping[str, str], metrics: Mapping[str, float]) -> dict[str, float]:
    """Return metrics by score; empty unless all of them are there."""
    there = all(metric in metrics for metric in names.values())
    return {score: metrics[metric] for score, metric in names.items()} if there else {}
