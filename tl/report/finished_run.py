"""A run that has ended, read from its folder: settings, scores, costs, curves."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tl.reading import read_object, versions_in
from tl.report.conditions import conditions_of_test
from tl.report.results import RESUMED, read_configuration, read_results

#: Steps and values of a metric.
Curve = tuple[list[int], list[float]]
#: What a run costs, by its names in ``results.json``.
COSTS = ("seconds", "images_per_second")


@dataclass(frozen=True)
class FinishedRun:
    """What a run's folder holds.

    Args:
        folder: The folder ``version_N``.
        settings: Its configuration, flat, by dotted name; and as ``test: shift`` and the like what
            was unusual about its test.
        metrics: Metrics by name.
        costs: Seconds and images a second of its training.
        monitor: Metric that chose its best checkpoint.
        task: Its only task, which its metrics do not name; ``None`` of several.
        before: Folder of the run that it resumed; costs are without it.
        provenance: Its record of the source that it started from.
    """

    folder: Path
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    costs: Mapping[str, float]
    monitor: str | None = None
    task: str | None = None
    before: Path | None = None
    provenance: Mapping[str, Any] | None = None

    def value(self, metric: str) -> float | None:
        """Return a metric; of the only task also by a name with the task in it."""
        return self.metrics.get(metric, self.metrics.get(self._unnamed(metric)))

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """Read a metric over steps from ``metrics.csv``, as :meth:`value` does.

        What a resumed run had logged before comes first.
        """
        found: dict[int, float] = {}
        for folder in reversed(list(_parts(self))):
            curves = read_curves(folder / "metrics.csv")
            steps, values = curves.get(metric) or curves.get(self._unnamed(metric)) or ((), ())
            begin = min(steps, default=0)
            found = {step: value for step, value in found.items() if step < begin or not steps}
            found |= dict(zip(steps, values, strict=True))
        return sorted(found.items())

    def _unnamed(self, metric: str) -> str:
        return metric if self.task is None else metric.replace(f"/{self.task}/", "/", 1)


def _parts(run: FinishedRun) -> Iterator[Path]:
    """List the folders of a run, the last part first."""
    folder: Path | None = run.folder
    before, seen = run.before, set[Path]()
    while folder is not None and folder.resolve() not in seen:
        seen.add(folder.resolve())
        yield folder
        folder = before
        before = None if folder is None else _resumed(folder, _noted(folder))


def _noted(folder: Path) -> Mapping[str, Any]:
    """Return what a part of a run noted: its results, or, if it was killed, what it resumed."""
    return read_object(folder / "results.json") or read_object(folder / RESUMED)


def _resumed(folder: Path, results: Mapping[str, Any]) -> Path | None:
    """Return the folder of the run that one resumed, which may be gone by now."""
    checkpoint = results.get("resumed_from")
    if not isinstance(checkpoint, str):
        return None
    return Path(os.path.normpath(folder / checkpoint)).parent.parent


def read_curves(path: Path) -> dict[str, Curve]:
    """Read steps and values of each metric from a CSV file; nothing if there is no such file."""
    found: dict[str, Curve] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                with suppress(ValueError):  # of a run that was killed in mid-line
                    step = int(row.pop("step", None) or "")
                    for name, value in row.items():
                        if value and name not in ("epoch", None):
                            number = float(value)
                            steps, values = found.setdefault(name, ([], []))
                            steps.append(step)
                            values.append(number)
    except (OSError, ValueError, csv.Error):
        return {}
    return found


def read_run(folder: Path) -> FinishedRun:
    """Read a run.

    Args:
        folder: A folder ``version_N``, or one that holds such folders.

    Raises:
        ValueError: If there are no results, or they are damaged.
    """
    numbered = versions_in(folder, "results.json")
    where = folder if (folder / "results.json").exists() or not numbered else numbered[-1]
    if not folder.exists():
        raise ValueError(f"There is no folder {folder}.")
    if not (where / "results.json").exists():
        raise ValueError(
            f"{folder} holds no results.json; name the folder of a run that has ended, such as "
            "lightning_logs/run/version_0."
        )
    results = read_results(where / "results.json")
    best, tasks = results.get("best") or {}, results.get("scores") or {}
    # of the best checkpoint, which is the one that is tested, and not of the last epoch
    chosen = {k: v for k, v in (best.get("metrics") or {}).items() if k.startswith("val/")}
    origin = results.get("provenance")
    tested = {f"test: {name}": said for name, said in conditions_of_test(results).items()}
    return FinishedRun(
        where,
        flat(read_configuration(where / "config.yaml")) | tested,
        {
            name: float(value)
            for name, value in {**(results.get("metrics") or {}), **chosen}.items()
            if isinstance(value, int | float) and math.isfinite(value)
        },
        {name: float(results[name]) for name in COSTS if results.get(name) is not None},
        best.get("monitor"),
        next(iter(tasks)) if len(tasks) == 1 else None,
        _resumed(where, results),
        origin if isinstance(origin, Mapping) else None,
    )


def flat(value: object, key: str = "") -> dict[str, Any]:
    """Write nested mappings and lists as one mapping, with dotted keys."""
    parts: dict[str, object] = {}
    if isinstance(value, Mapping):
        parts = {str(name): part for name, part in value.items()}
    elif isinstance(value, list):
        parts = {str(number): part for number, part in enumerate(value)}
    if not parts:
        return {key: value} if key else {}
    found: dict[str, Any] = {}
    for name, part in parts.items():
        found |= flat(part, f"{key}.{name}" if key else name)
    return found
