from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from tests.studies import content, leave_results, noise, write_study
from tests.study.test_sections import SEARCH
from tl.study.findings import as_dict, report_of, runs_csv, status_line
from tl.study.folders import RunFolders
from tl.study.study_file import read_study


def test_an_empty_study_says_what_is_missing(tmp_path: Path) -> None:
    report = report_of(read_study(write_study(tmp_path)), tmp_path / "out")
    assert status_line(report) == "0 of 10 runs are done."
    found = json.loads(json.dumps(as_dict(report)))
    assert len(found["missing"]) == 10
    assert found["gains"] == []


def test_raw_numbers_of_every_run_are_a_table(tmp_path: Path) -> None:
    study, points = leave_results(write_study(tmp_path), tmp_path / "out", noise)
    folders = RunFolders(tmp_path / "out")
    last = list(points.values())[-1]
    (folders.of(last) / "version_0" / "results.json").unlink()
    folders.write(last, "failed.json", {"error": "it broke"})
    report = report_of(study, tmp_path / "out")
    rows = list(csv.DictReader(io.StringIO(runs_csv(report))))
    assert len(rows) == 10
    assert [row["state"] for row in rows] == ["done"] * 9 + ["failed"]
    for row in rows[:-1]:
        assert float(row["test/acc"]) == noise(points[row["run"]])["test/acc"]  # all digits
        assert (row["steps"], row["samples"], row["seconds"]) == ("10", "40", "2.0")
    assert status_line(report) == "9 of 10 runs are done, 1 failed."
    assert as_dict(report)["failed"] == {last.name: "it broke"}
    assert len(as_dict(report)["cells"]) == 4


def test_what_a_search_tried_and_chose_is_in_the_table(tmp_path: Path) -> None:
    out, path = tmp_path / "out", write_study(tmp_path, content(search=SEARCH))
    study, points = leave_results(path, out, noise)
    folders = RunFolders(out)
    for number, point in enumerate(points.values()):
        chosen = {"model.lr": 0.1 + number / 100} if point.group is not None else {}
        folders.write(point, "point.json", {"chosen": chosen})
    report = report_of(study, out)
    rows = list(csv.DictReader(io.StringIO(runs_csv(report))))
    trials = [row for row in rows if row["trial"]]
    assert len(trials) == 6
    for row in trials:
        assert float(row["val/acc"]) == noise(points[row["run"]])["val/acc"]
        assert float(row["model.lr"]) == folders.chosen(points[row["run"]])["model.lr"]
    assert all(row["model.lr"] == "" for row in rows if row["stage"] == "source")
    for found in report.tuned:
        own = [row for row in trials if row["method"] == found.values["method"]]
        best = max(own, key=lambda row: float(row["val/acc"]))
        assert found.score == float(best["val/acc"])
        assert found.chosen == {"model.lr": float(best["model.lr"])}
        assert found.ended == 3
    # a method whose trials are not over is left out; one without a score says so
    last = [p for p in points.values() if p.trial is not None and p.group == ("full",)]
    for point in last:
        folders.write(point, "failed.json", {"error": "it broke"})
    found = report_of(study, out).tuned[1]
    assert (found.chosen, found.score, found.ended) == ({}, None, 0)
    folders.forget_failure(last[0])
    (folders.of(last[0]) / "version_0" / "results.json").unlink()
    assert [each.values for each in report_of(study, out).tuned] == [{"method": "scratch"}]
    # trials are no rows of the comparison
    assert all(len(cell.runs) == cell.wanted == 2 for cell in report.cells)
    assert json.loads(json.dumps(as_dict(report)))["tuned"][0]["values"] == {"method": "scratch"}


def test_results_that_are_damaged_are_told_from_missing_ones(tmp_path: Path) -> None:
    study, points = leave_results(write_study(tmp_path), tmp_path / "out", noise)
    last = list(points.values())[-1]
    path = RunFolders(tmp_path / "out").of(last) / "version_0" / "results.json"
    path.write_text('{"metrics": [1]}')
    report = report_of(study, tmp_path / "out")
    assert list(report.damaged) == [last.name]
    assert f"{path} is damaged" in report.damaged[last.name]
    assert as_dict(report)["missing"] == [last.name]


def test_an_option_that_another_stage_varies_has_one_column(tmp_path: Path) -> None:
    given = content(search=SEARCH)
    given["stages"]["source"]["vary"]["model.lr"] = [0.5]
    given["stages"]["target"]["needs"]["source"]["model.lr"] = 0.5
    out = tmp_path / "out"
    study, points = leave_results(write_study(tmp_path, given), out, noise)
    for point in points.values():
        chosen = {} if point.group is None else {"model.lr": 0.25}
        RunFolders(out).write(point, "point.json", {"chosen": chosen})
    text = runs_csv(report_of(study, out))
    assert text.splitlines()[0].split(",").count("model.lr") == 1
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["model.lr"] for row in rows if row["stage"] == "source"} == {"0.5"}
    assert {row["model.lr"] for row in rows if row["stage"] == "target"} == {"0.25"}
