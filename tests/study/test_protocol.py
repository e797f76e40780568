from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.studies import content, leave_results, noise, write_study
from tests.study.test_sections import SEARCH
from tl.study.findings import as_dict, report_of
from tl.study.folders import RunFolders
from tl.study.points import Point, points_of
from tl.study.report import markdown


def left(folder: Path, seeds: int = 5) -> tuple[Any, list[Point]]:
    """A study of so many seeds whose runs have ended."""
    given = content()
    for stage in given["stages"].values():
        stage["vary"]["seed_everything"] = list(range(seeds))
    study, points = leave_results(write_study(folder, given), folder / "out", noise)
    full = [p for p in points.values() if p.values.get("method") == "full"]
    return study, [p for p in full if p.values["data.part"] == 0.1]


def configure(folder: Path, point: Point, options: dict[str, Any], **results: Any) -> None:
    """Write what a run's folder says of its configuration and results."""
    version = RunFolders(folder / "out").of(point) / "version_0"
    (version / "config.yaml").write_text(yaml.safe_dump(options))
    path = version / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **results}))


def test_a_study_that_keeps_the_rules_is_told_nothing(tmp_path: Path) -> None:
    study, _ = left(tmp_path)
    report = report_of(study, tmp_path / "out")
    assert report.departures == []
    assert "departs from the rules" not in markdown(report)


def test_few_seeds_are_said(tmp_path: Path) -> None:
    study, _ = left(tmp_path, seeds=3)
    report = report_of(study, tmp_path / "out")
    assert report.departures == ["3 seeds a row; a claim should have 5 or more."]
    assert "- 3 seeds a row; a claim should have 5 or more." in markdown(report)
    assert as_dict(report)["departures"] == report.departures


def test_what_rows_differ_in_is_said(tmp_path: Path) -> None:
    study, (first, second, third, *others) = left(tmp_path)
    joint = {"model": {"init_args": {"batch_norm": "joint"}}}
    configure(tmp_path, first, {"model": {"init_args": {"batch_norm": "per_source"}}})
    stops = {"callbacks": [{"class_path": "EarlyStopping"}], "max_steps": 10}
    configure(tmp_path, second, {**joint, "trainer": stops}, steps=10)
    sizes = {"a": {"images": {"train": 500, "val": 1000}}}
    configure(tmp_path, third, {**joint, "trainer": stops}, steps=9, data=sizes)
    for other in others:
        configure(tmp_path, other, joint)
    found = report_of(study, tmp_path / "out").departures
    assert found[1:] == [
        "part 0.1, full: 1 of 5 runs ended at `max_steps` before validation stopped rising.",
        "part 0.1, full: a validates on 1,000 samples and trains on 500.",
    ]
    assert found[0].startswith("The rows differ in batch_norm: ")
    assert "per_source in (part 0.1, full)" in found[0]


def test_rows_that_one_axis_tells_apart_are_named_by_it(tmp_path: Path) -> None:
    study, _ = left(tmp_path)
    for point in points_of(study).values():
        if "method" in point.values:
            kind = "joint" if point.values["method"] == "full" else "per_source"
            configure(tmp_path, point, {"model": {"init_args": {"batch_norm": kind}}})
    [said] = report_of(study, tmp_path / "out").departures
    assert said in (
        "The rows differ in batch_norm: per_source in scratch; joint in full.",
        "The rows differ in batch_norm: joint in full; per_source in scratch.",
    )


@pytest.mark.parametrize(
    ("per", "said"),
    [
        ([], "part 0.1, scratch alone"),
        (["method"], "part 0.1 alone for each method"),
        (["method", "data.part"], ""),
    ],
)
def test_options_tuned_on_one_row_are_said(tmp_path: Path, per: list[str], said: str) -> None:
    given = content(search={**SEARCH, "per": per})
    for stage in given["stages"].values():
        stage["vary"]["seed_everything"] = list(range(5))
    study, _ = leave_results(write_study(tmp_path, given), tmp_path / "out", noise)
    expected = [f"Options are tuned on {said}, and used for all rows."] if said else []
    assert report_of(study, tmp_path / "out").departures == expected
