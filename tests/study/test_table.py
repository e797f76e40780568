from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.studies import task, write_study
from tl.study.folders import RunFolders
from tl.study.points import points_of
from tl.study.running import run_study
from tl.study.study_file import read_study
from tl.study.table import StudyTable, duration


def test_a_line_says_that_a_run_ended(tmp_path: Path) -> None:
    points = points_of(read_study(write_study(tmp_path)))
    folders, said = RunFolders(tmp_path / "out"), io.StringIO()
    first, second, *_ = points.values()
    with StudyTable(points, folders, 1, said):
        folders.write(first, "failed.json", {"error": "it broke"})
    assert said.getvalue().startswith(f"1/10 {first.name} failed: it broke; about ")
    assert second.name not in said.getvalue()


@pytest.mark.parametrize("counted", ["images", "samples"])
def test_the_table_shows_what_runs_and_how_fast(counted: str, tmp_path: Path) -> None:
    points = points_of(read_study(write_study(tmp_path)))
    folders = RunFolders(tmp_path / "out")
    first = next(iter(points.values()))
    folders.write(first, "point.json", {})
    version = folders.of(first) / "version_0"
    version.mkdir()
    (version / "metrics.csv").write_text(f"step,perf/{counted}_per_second\n7,\n9,123.4\n")
    (version / "config.yaml").write_text(json.dumps({}))
    with folders.locked(first):
        table = StudyTable(points, folders, 1, io.StringIO()).render()
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0 of 10 runs ended; time left unknown" in text
    assert first.name in text
    assert "│ 9 " in text
    assert "│ 123 " in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(42.4, "42 s"), (300, "5 min"), (11_100, "3 h 05 min")]
)
def test_durations_are_those_of_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_run_whose_lock_was_looked_at_is_not_under_way(tmp_path: Path) -> None:
    points = points_of(read_study(write_study(tmp_path)))
    folders = RunFolders(tmp_path / "out")
    for point in points.values():
        with folders.locked(point):
            pass
    assert StudyTable(points, folders, 1, io.StringIO()).render().row_count == 0


def test_a_study_runs_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna", reason="needs tl[study]")
    monkeypatch.setenv("STUB_SECONDS", "0.3")
    monkeypatch.setattr("tl.study.table._EVERY", 0.05)
    monkeypatch.setenv("TERM", "xterm")
    said = Terminal()
    assert run_study(task(write_study(tmp_path)), 1, say=said).progress.is_over
    assert "10/10 " in said.getvalue()
    assert "runs ended; " in said.getvalue()


def test_what_waits_for_a_failed_run_is_not_left(tmp_path: Path) -> None:
    points = points_of(read_study(write_study(tmp_path)))
    folders, said = RunFolders(tmp_path / "out"), io.StringIO()
    with StudyTable(points, folders, 1, said) as table:
        folders.write(next(iter(points.values())), "failed.json", {"error": "it broke"})
        table._looked = 0.0
        table.update()
        assert table.remaining().endswith(" left, 2 wait for a failed one")
        for point in points.values():
            if point.needs != {"source": next(iter(points))}:
                folders.write(point, "failed.json", {"error": "it broke"})
    assert "8/10" in said.getvalue()
    assert said.getvalue().rstrip().endswith("; all others done, 2 wait for a failed one")


def test_what_a_worker_says_is_not_erased_by_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna", reason="needs tl[study]")
    monkeypatch.setenv("TERM", "xterm")
    path, said = write_study(tmp_path), Terminal()
    edit = "import sys\nif sys.argv[1] == 'fit':\n    open('base.yaml', 'w').close()"
    (tmp_path / "stub.py").write_text(edit + (tmp_path / "stub.py").read_text())
    with pytest.raises(ValueError, match="as the lines above say"):
        run_study(task(path), 1, say=said)
    assert "was changed while its study ran" in said.getvalue()
