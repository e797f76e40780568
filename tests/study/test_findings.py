from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from tests.studies import leave_results, noise, write_study
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
