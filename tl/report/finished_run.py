"""A run that has ended, read from its folder: settings, scores, costs, curves."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tl.reading import read_text, read_yaml
from tl.report.conditions import conditions_of_test

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
    """

    folder: Path
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]
    costs: Mapping[str, float]
    monitor: str | None = None

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """Read a metric over steps from ``metrics.csv``."""
        try:
            with (self.folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        except OSError:
            return []
        return [(int(r["step"]), float(r[metric])) for r in rows if r.get(metric) and r.get("step")]


def read_run(folder: Path) -> FinishedRun:
    """Read a run.

    Args:
        folder: A folder ``version_N``, or one that holds such folders.

    Raises:
        ValueError: If there are no results.
    """
    versions = [p.parent for p in folder.glob("version_*/results.json")]
    numbered = sorted(
        (v for v in versions if v.name[8:].isdecimal()), key=lambda v: int(v.name[8:])
    )
    where = folder if (folder / "results.json").exists() or not numbered else numbered[-1]
    try:
        results = json.loads(read_text(where / "results.json"))
    except (OSError, ValueError):
        raise ValueError(
            f"{folder} holds no results.json; name the folder of a run that has ended, such as "
            "lightning_logs/run/version_0."
        ) from None
    try:
        settings = flat(read_yaml(where / "config.yaml"))
    except (OSError, ValueError):
        settings = {}
    best = results.get("best") or {}
    # of the best checkpoint, which is the one that is tested, and not of the last epoch
    chosen = {k: v for k, v in (best.get("metrics") or {}).items() if k.startswith("val/")}
    tested = {f"test: {name}": said for name, said in conditions_of_test(results).items()}
    return FinishedRun(
        where,
        settings | tested,
        {
            name: float(value)
            for name, value in {**(results.get("metrics") or {}), **chosen}.items()
            if value is not None
        },
        {name: float(results[name]) for name in COSTS if results.get(name) is not None},
        best.get("monitor"),
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
