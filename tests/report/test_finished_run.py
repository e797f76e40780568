from __future__ import annotations

import json
from pathlib import Path

import pytest

from tl.report.finished_run import flat, read_curves, read_run


def test_validation_is_that_of_the_best_checkpoint(tmp_path: Path) -> None:
    results = {
        "metrics": {"val/acc": 0.4, "train/loss": 1.0, "test/acc": 0.6, "val/f1": None},
        "best": {"monitor": "val/acc", "metrics": {"val/acc": 0.7, "train/loss": 9.0}},
        "seconds": 3,
    }
    (tmp_path / "results.json").write_text(json.dumps(results))
    found = read_run(tmp_path)
    assert found.metrics == {"val/acc": 0.7, "train/loss": 1.0, "test/acc": 0.6}
    assert (found.monitor, found.costs, found.settings) == ("val/acc", {"seconds": 3.0}, {})


def test_a_folder_of_versions_is_its_newest_with_results(tmp_path: Path) -> None:
    for number in (2, 10):
        (tmp_path / f"version_{number}").mkdir()
        (tmp_path / f"version_{number}" / "results.json").write_text("{}")
    (tmp_path / "version_11").mkdir()
    assert read_run(tmp_path).folder.name == "version_10"


def test_a_curve_leaves_out_rows_without_the_metric(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    assert read_run(tmp_path).curve("val/acc") == []
    (tmp_path / "metrics.csv").write_text("step,val/acc,train/loss\n1,0.5,\n2,,3\n4,0.6,\n")
    assert read_run(tmp_path).curve("val/acc") == [(1, 0.5), (4, 0.6)]


def test_what_has_no_results_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no results\.json; name the folder of a run"):
        read_run(tmp_path)


def test_nested_settings_have_dotted_names() -> None:
    assert flat({"a": {"b": [1, {"c": 2}], "d": {}}}) == {"a.b.0": 1, "a.b.1.c": 2, "a.d": {}}


def test_the_curve_of_a_run_has_all_its_parts_also_a_killed_one(tmp_path: Path) -> None:
    for number, rows in enumerate(["1,0.1\n2,0.2\n3,0.9\n", "3,0.3\n", "4,0.4\n"]):
        folder = tmp_path / f"version_{number}"
        folder.mkdir()
        before = f"../version_{number - 1}/checkpoints/last.ckpt" if number else None
        killed = number == 1
        noted: dict[str, object] = {"resumed_from": before} | ({} if killed else {"metrics": {}})
        (folder / ("resumed.json" if killed else "results.json")).write_text(json.dumps(noted))
        (folder / "metrics.csv").write_text(f"step,val/acc\n{rows}")
    run = read_run(tmp_path)
    assert run.curve("val/acc") == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    assert read_run(tmp_path / "version_0").before is None


def test_scores_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"metrics": {"val/acc": NaN, "val/loss": 0.5}}')
    assert read_run(tmp_path).metrics == {"val/loss": 0.5}


def test_a_line_that_was_cut_off_costs_no_other_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,val/acc,val/loss\n0,1,0.1,0.2\n,x,0.1,\n1,2,0.3,0.4e")
    assert read_curves(path) == {"val/acc": ([1, 2], [0.1, 0.3]), "val/loss": ([1], [0.2])}
    path.write_text('step,val/acc\n1,"' + "x" * 200_000)
    assert read_curves(path) == {}
