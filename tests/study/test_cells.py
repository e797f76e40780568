from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.studies import content, leave_results, noise, write_study
from tl.study.analysis import gains_of, single_of
from tl.study.cells import DELTA, Budget, cells_of, directed, metrics_of, read_runs, score_of
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


def mixed(metrics: list[str], **report: Any) -> dict[str, Any]:
    """A study of two tasks with scores of their own, alone and together."""
    given = content()
    tasks = {"seg": {"data.name": "seg"}, "depth": {"data.name": "depth"}}
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
        "metric": metrics,
        "rows": ["method"],
        "against": {"method": "sum"},
        "delta_m": {"stage": "alone", "axis": "task"},
        **report,
    }
    return given


WAYS = {"seg": {"miou": "max"}, "depth": {"abs": "min", "delta1": "max"}}


def two_tasks(point: Point) -> dict[str, float]:
    """By hand: ``sum`` is 10 % up and 25 % down in error; ``other`` is worse in both."""
    if point.stage == "alone":
        alone = {"seg": {"test/miou": 0.5}, "depth": {"test/abs": 0.4, "test/delta1": 0.8}}
        return alone[str(point.values["task"])]
    better = point.values["method"] == "sum"
    return {
        "test/seg/miou": 0.55 if better else 0.45,
        "test/depth/abs": (0.3 if better else 0.5) + 0.001 * point.values["seed_everything"],
        "test/depth/delta1": 0.84 if better else 0.72,
    }


def test_directions_come_from_the_scores(tmp_path: Path) -> None:
    metrics = ["test/seg/miou", "test/depth/abs", "test/depth/delta1"]
    path = write_study(tmp_path, mixed(metrics))
    study, points = leave_results(path, tmp_path / "out", two_tasks, ways=WAYS)
    runs = read_runs(study, points, RunFolders(tmp_path / "out"))
    first, second = cells_of(study, points, runs)
    # by hand: 0.1 and the mean of 0.25 and 0.05; -0.1 and the mean of -0.25 and -0.1
    assert first.values(DELTA)[0] == pytest.approx(0.125)
    assert second.values(DELTA)[0] == pytest.approx(-0.1375)
    assert second.values(DELTA)[1] == pytest.approx((-0.1 + (-0.2525 - 0.1) / 2) / 2)
    assert study.report.lower_is_better == ()
    study = directed(study, runs)
    assert study.report.lower_is_better == ("test/depth/abs",)
    # a larger error is worse
    [gain] = gains_of(study, [first, second], "test/depth/abs")
    assert gain.difference.mean == pytest.approx(-0.2)


def test_a_task_that_is_better_when_lower_is_so_in_every_table(tmp_path: Path) -> None:
    given = mixed(["test/seg/miou", "test/depth/abs"], lower_is_better=["depth"])
    study, points = leave_results(write_study(tmp_path, given), tmp_path / "out", two_tasks)
    runs = read_runs(study, points, RunFolders(tmp_path / "out"))
    cells = cells_of(study, points, runs)
    assert cells[0].values(DELTA)[0] == pytest.approx((0.1 + 0.25) / 2)
    study = directed(study, runs)
    assert "test/depth/abs" in study.report.lower_is_better
    single = single_of(study, cells, runs, "test/depth/abs")
    assert single is not None
    assert [gain.difference.mean > 0 for gain in single.gains] == [True, False]  # 0.3, 0.5: 0.4


@pytest.mark.parametrize(
    ("metric", "score"),
    [
        ("test/acc", "acc"),
        ("val/target/oracle_acc_at_best", "acc"),
        ("val/target/oracle_abs_at_chosen", "abs"),
        ("val/target/oracle_knn_acc", "acc"),
        ("val/target/oracle", "oracle"),
    ],
)
def test_what_an_oracle_measures_is_a_score(metric: str, score: str) -> None:
    assert score_of(metric) == score


def test_a_loss_counts_only_where_a_task_has_nothing_else(tmp_path: Path) -> None:
    metrics = ["test/seg/miou", "test/seg/loss", "test/depth/loss"]

    def score(point: Point) -> dict[str, float]:
        if point.stage == "alone":
            return {"test/miou": 0.5, "test/loss": 1.0}
        return {"test/seg/miou": 0.6, "test/seg/loss": 9.0, "test/depth/loss": 0.9}

    study, points = leave_results(write_study(tmp_path, mixed(metrics)), tmp_path / "out", score)
    cells = cells_of(study, points, read_runs(study, points, RunFolders(tmp_path / "out")))
    assert cells[0].values(DELTA)[0] == pytest.approx((0.2 + 0.1) / 2)


def test_a_study_that_says_another_direction_than_its_runs_is_refused(tmp_path: Path) -> None:
    given = mixed(["test/seg/miou", "test/depth/abs"], lower_is_better=["test/seg/miou"])
    path = write_study(tmp_path, given)
    study, points = leave_results(path, tmp_path / "out", two_tasks, ways=WAYS)
    with pytest.raises(ValueError, match="test/seg/miou, which is better when higher; leave it"):
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
