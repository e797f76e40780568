"""``tl delta_m``: multi-task runs beside a network per task."""

from __future__ import annotations

import argparse

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
    baselines: dict[str, list[str]] = {}
    for text in given.baseline:
        task, equals, folder = text.partition("=")
        if not (task and equals and folder):
            raise ValueError(f"`--baseline` must be TASK=FOLDER, got {text!r}.")
        baselines.setdefault(task, []).append(folder)
    scores: dict[str, list[str]] = {}
    for text in given.score:
        task, _, score = text.partition("=")
        if not (task and score):
            raise ValueError(f"`--score` must be TASK=SCORE, got {text!r}.")
        scores.setdefault(task, []).append(score)
    print(against_single(given.runs, baselines, scores).table())  # noqa: T201
