from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies import content, leave_results, noise, write_study
from tl.study.cells import DELTA, Budget, cells_of, metrics_of, read_runs
from tl.study.folders import RunFolders
from tl.study.points import Point


def test_runs_are_sorted_into_cells(tmp_path: Path) -> None:
    study, points = leave_results(write_study(tmp_path), tmp_path / "out", noise)
    runs = read_runs(study, points, RunFolders(tmp_path / "out"))
    cells = cells_of(study, points, runs)
    assert [tuple(cell.row.values()) for cell in cells] == [
        (0.1, "scratch"),
        (0.1, "full"),
        (0.5, "scratch"),
        (0.5, "full"),
    ]
    for cell in cells:
        assert list(cell.runs) == [0, 1]
        assert cell.wanted == 2
        assert cell.budgets == [Budget(10, 40, 0)]  # batches of four
        values = list(cell.values("test/acc").values())
        interval = cell.interval("test/acc")
        assert interval is not None
        assert interval.mean == pytest.approx(sum(values) / 2)


def test_a_metric_that_no_run_logs_is_named(tmp_path: Path) -> None:
    study, points = leave_results(
        write_study(tmp_path), tmp_path / "out", lambda _: {"test/loss": 1.0}
    )
    with pytest.raises(ValueError, match=r"No run logs test/acc; they log test/loss\."):
        read_runs(study, points, RunFolders(tmp_path / "out"))


def test_delta_m_is_against_the_networks_of_the_same_seed(tmp_path: Path) -> None:
    given = content()
    tasks = {"a": {"data.name": "a"}, "b": {"data.name": "b"}}
    seeds = {"seed_everything": [0, 1]}
    given["stages"] = {
        "alone": {"configs": ["base.yaml"], "vary": {"task": tasks, **seeds}},
        "together": {
            "configs": ["base.yaml"],
            "vary": {"method": {"sum": {}, "other": "more.yaml"}, **seeds},
            "set": {"data.name": "both"},
        },
    }
    given["report"] = {
        "metric": ["test/a/acc", "test/b/acc"],
        "rows": ["method"],
        "against": {"method": "sum"},
        "delta_m": {"stage": "alone", "axis": "task"},
    }

    def score(point: Point) -> dict[str, float]:
        seed = point.values["seed_everything"]
        if point.stage == "alone":
            return {"test/acc": 0.5 if point.values["task"] == "a" else 0.2 + 0.2 * seed}
        return {"test/a/acc": 0.6, "test/b/acc": 0.2}

    study, points = leave_results(write_study(tmp_path, given), tmp_path / "out", score)
    assert metrics_of(study) == ("test/a/acc", "test/b/acc", DELTA)
    cells = cells_of(study, points, read_runs(study, points, RunFolders(tmp_path / "out")))
    for cell in cells:  # (0.2 + 0) / 2 and (0.2 - 0.5) / 2
        assert cell.values(DELTA) == pytest.approx({0: 0.1, 1: -0.15})
