"""``tl delta_m``: multi-task runs beside a network per task."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tl.report import against_single


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tl delta_m``."""
    parser.add_argument("runs", nargs="+", help="Folders of tested multi-task runs, one per seed.")
    parser.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="TASK=FOLDER",
        help="Folder of a tested run of that task alone; repeat for each task and seed.",
    )
    parser.add_argument(
        "--score",
        action="append",
        default=[],
        metavar="TASK=SCORE",
        help="Score of a task to compare; repeat for the mean over several. Default: the score "
        "that decides for the task.",
    )


def run(given: argparse.Namespace) -> None:
    """Print the comparison."""
    baselines = _by_task(given.baseline, "--baseline", "FOLDER")
    scores = _by_task(given.score, "--score", "SCORE")
    print(against_single(given.runs, baselines, scores).table())  # noqa: T201


def _by_task(texts: Sequence[str], option: str, what: str) -> dict[str, list[str]]:
    """Return the values of an option ``TASK=VALUE`` by task."""
    found: dict[str, list[str]] = {}
    for text in texts:
        task, _, value = text.partition("=")
        if not (task and value):
            raise ValueError(f"`{option}` must be TASK={what}, got {text!r}.")
        found.setdefault(task, []).append(value)
    return found
