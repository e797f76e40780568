from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.studies import leave_results, noise, write_study
from tl.study.dealing import Outcome, deal, identity, progress_of
from tl.study.folders import RunFolders
from tl.study.points import Point, points_of
from tl.study.storage import open_study
from tl.study.study_file import read_study

optuna = pytest.importorskip("optuna", reason="needs tl[study]")


def finish(folders: RunFolders, point: Point) -> None:
    version = folders.of(point) / "version_0"
    version.mkdir(parents=True)
    results = {"metrics": {"test/acc": 0.5}, "steps": 1}
    (version / "results.json").write_text(json.dumps(results))


def small(tmp_path: Path) -> tuple[dict[str, Point], RunFolders]:
    """The runs of a small study, and where they will lie."""
    (tmp_path / "out").mkdir()
    return points_of(read_study(write_study(tmp_path))), RunFolders(tmp_path / "out")


def finishing(folders: RunFolders, done: list[str]) -> Callable[[Point], Outcome]:
    """A run that ends at once, and notes its name."""

    def run(point: Point) -> Outcome:
        done.append(point.name)
        finish(folders, point)
        return "ended"

    return run


def test_needs_come_first_and_a_failure_blocks_what_needs_it(tmp_path: Path) -> None:
    points = points_of(read_study(write_study(tmp_path)))
    folders = RunFolders(tmp_path / "out")
    progress = progress_of(points, folders)
    assert len(progress.ready) == 2 + 4  # sources and scratch
    first = next(iter(points.values()))
    folders.write(first, "failed.json", {"error": "it broke"})
    progress = progress_of(points, folders)
    assert progress.blocked == {
        n: first.name for n, p in points.items() if first.name in p.needs.values()
    }
    assert len(progress.blocked) == 2
    for point in points.values():
        if point.name != first.name and point.name not in progress.blocked:
            finish(folders, point)
    assert progress_of(points, folders).is_over


def test_each_run_is_dealt_once_and_a_lost_database_loses_nothing(tmp_path: Path) -> None:
    points, folders = small(tmp_path)
    done: list[str] = []
    run = finishing(folders, done)
    shared = open_study("small", tmp_path / "out")
    deal(shared, points, folders, run, lambda: len(done) >= 4)
    assert len(done) == 4
    (tmp_path / "out" / "study.db").unlink()
    deal(open_study("small", tmp_path / "out"), points, folders, run)
    assert sorted(done) == sorted(points)


def test_an_offer_that_another_process_ends_at_the_same_moment_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points, folders = small(tmp_path)
    done: list[str] = []
    run = finishing(folders, done)
    shared = open_study("small", tmp_path / "out")
    plain = shared._storage.set_trial_state_values
    ended: list[int] = []

    def after_another(trial_id: int, state: Any, values: Any = None) -> bool:
        if state.is_finished():  # the other process, between our look and our word
            plain(trial_id, state=state, values=values)
            ended.append(trial_id)
        return plain(trial_id, state=state, values=values)

    monkeypatch.setattr(shared._storage, "set_trial_state_values", after_another)
    deal(shared, points, folders, run)
    assert sorted(done) == sorted(points)
    assert len(ended) >= len(points)


def test_a_stopped_run_is_offered_again(tmp_path: Path) -> None:
    points, folders = small(tmp_path)
    shared = open_study("small", tmp_path / "out")
    seen: list[str] = []

    def stopped(point: Point) -> Outcome:
        seen.append(point.name)
        return "stopped"

    deal(shared, points, folders, stopped, lambda: bool(seen))

    def run(point: Point) -> Outcome:
        seen.append(point.name)
        finish(folders, point)
        return "ended"

    deal(shared, points, folders, run)
    assert sorted(seen[1:]) == sorted(points)


def test_the_run_of_a_worker_that_is_gone_is_offered_again(tmp_path: Path) -> None:
    points, folders = small(tmp_path)
    shared = open_study("small", tmp_path / "out")
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    first = next(iter(points))
    shared.enqueue_trial({}, user_attrs={"point": first})
    host = identity().rsplit(":", 2)[0]
    shared.ask().set_user_attr("worker", f"{host}:{int(child.stdout)}:1")
    shared.enqueue_trial({}, user_attrs={"point": list(points)[1]})
    shared.ask().set_user_attr("worker", identity())  # lives, and runs the second
    seen: list[str] = []

    def run(point: Point) -> Outcome:
        seen.append(point.name)
        finish(folders, point)
        return "ended"

    deal(shared, points, folders, run, lambda: len(seen) >= len(points) - 3)
    assert first in seen
    assert list(points)[1] not in seen


def test_a_process_is_named_as_no_other_one() -> None:
    assert identity() == identity()
    assert f":{os.getpid()}:" in identity()


def test_a_finished_study_deals_nothing(tmp_path: Path) -> None:
    _, points = leave_results(write_study(tmp_path), tmp_path / "out", noise)
    progress = progress_of(points, RunFolders(tmp_path / "out"))
    assert progress.is_over
    assert progress.ready == ()
