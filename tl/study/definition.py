"""``study.json``: the runs that a study was started with, and how a file differs from them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tl.reading import read_object
from tl.study.folders import write_object
from tl.study.merging import FREE
from tl.study.points import Point

_FILE = "study.json"


def define(question: str, points: Mapping[str, Point], out: Path) -> None:
    """Write down which runs a study asks for."""
    here = _definition(points)
    path = out / _FILE
    if read_object(path).get("runs") != here:
        write_object(path, {"question": question, "runs": here})


def difference_to(points: Mapping[str, Point], out: Path) -> str:
    """Say in a line how runs differ from those that a study was started with.

    Where data lie does not count, nor the order of the runs.

    Returns:
        The line; empty where they are the same, or nothing was started.
    """
    there, here = _started(out), list(_definition(points).values())
    same = _hashes(there) & _hashes(here)
    before = [run for run in there if run["hash"] not in same]
    after = [run for run in here if run["hash"] not in same]
    if not there or not (before or after):
        return ""
    labels = {run["label"]: run for run in before}
    changed = [(labels[run["label"]], run) for run in after if run["label"] in labels]
    for old, new in changed:
        label, left, right = new["label"], old["options"], new["options"]
        # where data lie last: it may differ without being a change
        for key in sorted(dict.fromkeys([*left, *right]), key=lambda name: name in FREE):
            if left.get(key, "not set") != right.get(key, "not set"):
                return (
                    f"{key} was {json.dumps(left.get(key, 'not set'))} and is "
                    f"{json.dumps(right.get(key, 'not set'))} in {label}"
                )
        if old["configs"] != new["configs"]:
            return f"the configurations of {label} were {old['configs']} and are {new['configs']}"
    if changed:
        return f"the content of a configuration of {changed[0][1]['label']}, or the search"
    parts = [f"{len(after)} more, such as {after[0]['label']}"] if after else []
    parts += [f"{len(before)} fewer, such as {before[0]['label']}"] if before else []
    return " and ".join(parts)


def are_apart(points: Mapping[str, Point], out: Path) -> bool:
    """Tell whether none of the runs is one that a study was started with."""
    there = _started(out)
    return bool(there) and not _hashes(there) & _hashes(_definition(points).values())


def damage(out: Path) -> str:
    """Say in a line that the record of a study's runs is damaged; empty where it is not."""
    path = out / _FILE
    if not path.exists():
        return ""
    runs = read_object(path).get("runs")
    if isinstance(runs, dict) and runs and len(_started(out)) == len(runs):
        return ""
    return (
        f"{path} is damaged: it no longer tells which runs the study was started with, so a "
        "changed study file goes unnoticed. `tl study run` writes it anew."
    )


def _started(out: Path) -> list[dict[str, Any]]:
    """Return the runs that a study was started with; those that are damaged are left out."""
    runs = read_object(out / _FILE).get("runs")
    kinds = {"hash": str, "label": str, "options": dict, "configs": list}
    return [
        run
        for run in (runs.values() if isinstance(runs, dict) else ())
        if isinstance(run, dict) and all(isinstance(run.get(k), kind) for k, kind in kinds.items())
    ]


def _hashes(runs: Iterable[Mapping[str, Any]]) -> set[str]:
    return {run["hash"] for run in runs}


def _definition(points: Mapping[str, Point]) -> dict[str, Any]:
    return {
        name: json.loads(
            json.dumps(
                {
                    "configs": point.configs,
                    "options": dict(point.options),
                    "label": point.title.replace(f"-{point.hash[:10]}", ""),
                    "hash": point.hash,
                },
                default=str,
            )
        )
        for name, point in points.items()
    }
