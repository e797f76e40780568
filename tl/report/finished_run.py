"""A run that has ended, read from its folder: settings, scores, costs, curves."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tl.reading import read_object, read_text, read_yaml, versions_in
from tl.report.conditions import conditions_of_test

#: Steps and values of a metric.
Curve = tuple[list[int], list[float]]
#: What a run costs, by its names in ``results.json``.
COSTS = ("seconds", "images_per_second")
_LONGEST = 60  # letters of a setting


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
    """

    folder: Path
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    costs: Mapping[str, float]
    monitor: str | None = None
    task: str | None = None
    before: Path | None = None

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
        before = None if folder is None else _resumed(folder, read_object(folder / "results.json"))


def _resumed(folder: Path, results: Mapping[str, Any]) -> Path | None:
    """Return the folder of the run that one resumed; of an archive of another machine, none."""
    checkpoint = results.get("resumed_from")
    if not isinstance(checkpoint, str):
        return None
    found = Path(os.path.normpath(folder / checkpoint)).parent.parent
    return found if (found / "metrics.csv").is_file() else None


def read_curves(path: Path) -> dict[str, Curve]:
    """Read steps and values of each metric from a CSV file; nothing if there is no such file."""
    found: dict[str, Curve] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                step = row.pop("step", None)
                for name, value in row.items() if step else ():
                    if value and name not in ("epoch", None):
                        steps, values = found.setdefault(name, ([], []))
                        steps.append(int(step))
                        values.append(float(value))
    except (OSError, ValueError):
        return {}
    return found


def read_run(folder: Path) -> FinishedRun:
    """Read a run.

    Args:
        folder: A folder ``version_N``, or one that holds such folders.

    Raises:
        ValueError: If there are no results.
    """
    numbered = versions_in(folder, "results.json")
    where = folder if (folder / "results.json").exists() or not numbered else numbered[-1]
    try:
        results = json.loads(read_text(where / "results.json"))
        if not isinstance(results, dict):
            raise ValueError  # noqa: TRY004, TRY301 - as a file that is none
    except (OSError, ValueError):
        raise ValueError(
            f"{folder} holds no results.json; name the folder of a run that has ended, such as "
            "lightning_logs/run/version_0."
        ) from None
    try:
        settings = flat(read_yaml(where / "config.yaml"))
    except (OSError, ValueError, yaml.YAMLError):
        settings = {}  # such a run is like no other one
    best, tasks = results.get("best") or {}, results.get("scores") or {}
    # of the best checkpoint, which is the one that is tested, and not of the last epoch
    chosen = {k: v for k, v in (best.get("metrics") or {}).items() if k.startswith("val/")}
    tested = {f"test: {name}": said for name, said in conditions_of_test(results).items()}
    return FinishedRun(
        where,
        settings | tested,
        {
            name: float(value)
            for name, value in {**(results.get("metrics") or {}), **chosen}.items()
            if isinstance(value, int | float) and math.isfinite(value)
        },
        {name: float(results[name]) for name in COSTS if results.get(name) is not None},
        best.get("monitor"),
        next(iter(tasks)) if len(tasks) == 1 else None,
        _resumed(where, results),
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


def shortened(value: object) -> str:
    """Write a setting in so few letters that it fits a line."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
