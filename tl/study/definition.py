"""``study.json``: the runs that a study was started with, and how a file differs from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    there, here = _started(out), _definition(points)
    if not there or _hashes(there) == _hashes(here):
        return ""
    before = {str(run["label"]): run for run in there.values()}
    after = {str(run["label"]): run for run in here.values()}
    changed = [x for x in after if x in before and before[x]["hash"] != after[x]["hash"]]
    for label in changed:
        old, new = before[label], after[label]
        left, right = (run["options"] for run in (old, new))
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
        return f"the content of a configuration of {changed[0]}, or the search"
    more = [label for label in after if label not in before]
    less = [label for label in before if label not in after]
    parts = [f"{len(more)} more, such as {more[0]}"] if more else []
    parts += [f"{len(less)} fewer, such as {less[0]}"] if less else []
    return " and ".join(parts) or "other runs of the same names"


def are_apart(points: Mapping[str, Point], out: Path) -> bool:
    """Tell whether none of the runs is one that a study was started with."""
    there = _started(out)
    return bool(there) and not _hashes(there) & _hashes(_definition(points))


def _started(out: Path) -> dict[str, Any]:
    there = read_object(out / _FILE).get("runs")
    return there if isinstance(there, dict) else {}


def _hashes(runs: Mapping[str, Any]) -> set[str]:
    return {str(run.get("hash")) for run in runs.values() if isinstance(run, Mapping)}


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
