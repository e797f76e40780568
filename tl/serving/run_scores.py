"""What a run measured with a checkpoint, and what its study's other seeds did."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tl.reading import read_text
from tl.report.conditions import conditions_of_test
from tl.runs.folders import results_in, run_of_checkpoint

_ABOVE = 4  # folders above a run in which a study's report may lie


@dataclass(frozen=True)
class RunScores:
    """Scores of a checkpoint.

    Args:
        metrics: By metric name, such as ``test/acc``.
        samples: By split and task, how many samples a score is from, and of how many.
        study: Name of the study that the run belongs to; ``None`` outside of one.
        seeds: By metric, mean, half width of the 95 % interval (``None`` for one seed) and number
            of seeds, over the study's runs that differ from this one by the seed only.
        set_aside: Why the test of this checkpoint does not count, in words; empty if none was set
            aside.
    """

    metrics: Mapping[str, float]
    samples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    study: str | None = None
    seeds: Mapping[str, tuple[float, float | None, int]] = field(default_factory=dict)
    set_aside: str = ""


def run_scores(checkpoint: Path, recorded: Mapping[str, float]) -> RunScores:
    """Read the scores of a checkpoint.

    Test scores count only if the run's last test was of this very checkpoint, neither adapted to
    the test inputs nor under another shift than in training.

    Args:
        checkpoint: The file; scores beside it are read if it lies in a run's folder.
        recorded: What the checkpoint itself recorded when it was saved.
    """
    metrics = {k: v for k, v in recorded.items() if k.startswith(("val/", "test/"))}
    run = run_of_checkpoint(checkpoint)
    if run is None:
        return RunScores(metrics)
    samples: dict[str, Mapping[str, Any]] = {}
    set_aside = ""
    results = results_in(run)
    evaluated, unusual = results.get("evaluated"), conditions_of_test(results)
    for split, found in evaluated.items() if isinstance(evaluated, Mapping) else ():
        if not isinstance(found, Mapping) or not found.get("checkpoint"):
            continue
        if os.path.normpath(run / str(found["checkpoint"])) != os.path.normpath(
            checkpoint.absolute()
        ):
            continue
        why = [f"{key} {unusual[key]}" for key in ("adaptation", "shift") if key in unusual]
        if split == "test" and why:
            set_aside = ", ".join(why)
            continue  # not the scores of these weights on the run's own images
        metrics |= found.get("metrics") or {}
        samples[split] = found.get("samples") or {}
    study, seeds = _study(run)
    return RunScores(metrics, samples, study, seeds, set_aside)


def _study(run: Path) -> tuple[str | None, dict[str, tuple[float, float | None, int]]]:
    """Return the study of a run, and its scores over seeds."""
    versions = run.parent
    for out in list(versions.parents)[:_ABOVE]:
        if not (out / "report.json").is_file() or not (out / "runs.csv").is_file():
            continue
        try:
            report = json.loads(read_text(out / "report.json"))
            rows = list(csv.DictReader(read_text(out / "runs.csv").splitlines()))
        except (OSError, ValueError):
            return None, {}
        name = versions.relative_to(out).as_posix()
        row = next((row for row in rows if row.get("run") == name), None)
        if row is None:
            return None, {}
        try:
            return str(report["study"]), _seeds(report["cells"], row)
        except (KeyError, TypeError, AttributeError):  # not what a study writes
            return None, {}
    return None, {}


def _seeds(
    cells: list[dict[str, Any]], row: Mapping[str, str]
) -> dict[str, tuple[float, float | None, int]]:
    """Return the scores of the cell that a run belongs to."""
    for cell in cells:
        if all(row.get(axis) == str(value) for axis, value in cell["row"].items()):
            return {
                metric: (found["mean"], found["half_width"], len(found["values"]))
                for metric, found in cell["metrics"].items()
                if found["mean"] is not None
            }
    return {}
