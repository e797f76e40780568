"""``tl study``: run, status and report of a study file."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tl.counting import counted

if TYPE_CHECKING:
    from tl.study.schema import Study


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tl study``."""
    parser.add_argument("action", choices=("run", "status", "report"), help="What to do.")
    parser.add_argument("file", help="The study file, as configs/studies/balancing.yaml.")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="Change a value: STAGE.OPTION, an OPTION of every stage, report.NAME or search.NAME.",
    )
    parser.add_argument("--out", help="Folder of the study: lightning_logs/studies/<file's name>.")
    run = parser.add_argument_group("run")
    run.add_argument("--workers", type=int, help="Runs at a time: one per GPU, or one.")
    run.add_argument(
        "--storage",
        help="Where processes share the study: journal:PATH on a shared file system, or a URL as "
        "postgresql+psycopg://host/database. SQLite in the study's folder for one machine.",
    )
    run.add_argument(
        "--accept-changes",
        action="store_true",
        help="Continue although the file asks for other runs; runs it still asks for are kept.",
    )
    run.add_argument("--retry-failed", action="store_true", help="Try failed runs again.")
    parser.add_argument(
        "--json",
        action="store_true",
        help="Print JSON (the live table of `run` goes to standard error).",
    )


def run(given: argparse.Namespace) -> None:
    """Run a study, or print its status or report."""
    from tl.study.study_file import read_study  # noqa: PLC0415 - only this verb needs it

    found = read_study(Path(given.file), given.set)
    out = Path(given.out or f"lightning_logs/studies/{found.name}")
    if given.action == "run":
        _run(given, out)
    elif given.action == "status":
        _status(given, found, out)
    else:
        _report(given, found, out)


def _run(given: argparse.Namespace, out: Path) -> None:
    from tl.study.running import run_study  # noqa: PLC0415
    from tl.study.task import Task  # noqa: PLC0415

    if given.workers is not None and given.workers < 1:
        raise ValueError(f"`--workers` must be 1 or more, got {given.workers}.")
    task = Task(given.file, tuple(given.set), str(out), given.storage)
    ended = run_study(
        task,
        given.workers,
        accept_changes=given.accept_changes,
        retry_failed=given.retry_failed,
        say=sys.stderr if given.json else sys.stdout,
    )
    _report(given, task.study(), out)
    if ended.failures:
        print(  # noqa: T201
            f"tl: {counted(len(ended.failures), 'run')} failed; the report names them. Try them "
            "again with "
            "--retry-failed.",
            file=sys.stderr,
        )
        sys.exit(1)


def _status(given: argparse.Namespace, found: Study, out: Path) -> None:
    from tl.study.findings import as_dict, report_of, status_line  # noqa: PLC0415

    _check(found, out)
    report = report_of(found, out)
    if given.json:
        kept = ("study", "status", "failed", "waiting_for_failed", "missing")
        content = as_dict(report)
        print(json.dumps({key: content[key] for key in kept}, indent=2))  # noqa: T201
        return
    print(f"{found.name}: {status_line(report)}")  # noqa: T201
    for name in found.stages:
        states = [
            state for point, state in report.progress.states.items() if point.startswith(f"{name}/")
        ]
        print(f"  {name}: {states.count('done')} of {len(states)} done")  # noqa: T201
    for name, why in report.failures.items():
        print(f"  {report.points[name].title} failed: {why}")  # noqa: T201


def _check(found: Study, out: Path) -> None:
    """Say where the file asks for other runs than the folder holds; refuse it if for all others."""
    from tl.study.definition import are_apart, damage, difference_to  # noqa: PLC0415
    from tl.study.points import points_of  # noqa: PLC0415

    points = points_of(found)
    if damaged := damage(out):
        print(f"tl: {damaged}", file=sys.stderr)  # noqa: T201
    changed = difference_to(points, out)
    if are_apart(points, out):
        raise ValueError(
            f"{found.path} asks for none of the runs that {out} was started with: {changed}. Give "
            "the same --set as `tl study run` was given, or take the file back."
        )
    if changed:
        print(  # noqa: T201
            f"tl: {found.path} asks for other runs than {out} was started with: {changed}.",
            file=sys.stderr,
        )


def _report(given: argparse.Namespace, found: Study, out: Path) -> None:
    from tl.study.figures import write_figures  # noqa: PLC0415 - with matplotlib
    from tl.study.findings import as_dict, report_of  # noqa: PLC0415
    from tl.study.report import markdown, write_report  # noqa: PLC0415

    if not out.is_dir():
        raise ValueError(f"There is no study in {out}; start it with `tl study run {given.file}`.")
    _check(found, out)
    report = report_of(found, out)
    print(json.dumps(as_dict(report), indent=2, default=str) if given.json else markdown(report))  # noqa: T201
    paths = [*write_report(report, out), *write_figures(report, out)]
    print(f"tl: wrote {', '.join(map(str, paths))}", file=sys.stderr)  # noqa: T201
