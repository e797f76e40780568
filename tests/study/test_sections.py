from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.studies import content, write_study
from tl.study.schema import Range
from tl.study.study_file import read_study

SEARCH: dict[str, Any] = {
    "over": {"model.lr": [0.001, 1.0, "log"]},
    "trials": 3,
    "per": "method",
    "metric": "val/acc",
    "seed": 100,
}


def refused(folder: Path, given: dict[str, Any]) -> str:
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as error:
        read_study(write_study(folder, given))
    return str(error.value)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"metric": "acc"}, "must begin with test/ or val/, got 'acc'"),
        ({"rows": ["methods", "data.part"]}, "names 'methods'; stage 'target' varies method"),
        ({"rows": ["method"]}, "leaves out 'data.part', whose runs would be mixed"),
        ({"against": {"method": "none"}}, "`report.against.method` is 'none', not one of scratch"),
        ({"stage": "third"}, "`report.stage` is 'third', not one of source, target"),
        ({"delta_m": {"stage": "source", "axis": "task"}}, "`report.delta_m` must be {stage: S"),
        ({"rows": ["method", "data.part", "seed_everything"]}, "cannot be a row too"),
        ({"data_sets": "data.part"}, "with 5 values or more, got 'data.part'; seeds and label"),
        ({"pairs": ["seed_everything"]}, "`report.pairs` must be a list of texts"),
        ({"stage": ["target"]}, "`report.stage` is ['target'], not one of source, target"),
        (
            {"delta_m": {"stage": "source", "axis": "seed_everything"}},
            "needs metrics that name their task, as test/TASK/acc, got test/acc",
        ),
        (
            {
                "metric": ["test/a/acc"],
                "delta_m": {"stage": "source", "axis": "seed_everything"},
            },
            "names the task 'a', and `report.delta_m.axis` has 0, 1",
        ),
        ({"delta_m": {"stage": "source", "axis": ["a"]}}, "`report.delta_m` must be {stage: S"),
        ({"data_sets": "x"}, "must be one of several rows, with 5 values or more, got 'x'"),
        ({"metric": ["test/acc", "test/acc"]}, "`report.metric` names 'test/acc' twice"),
        ({"rows": ["method", "data.part", "method"]}, "`report.rows` names 'method' twice"),
        ({"lower_is_better": ["test/mae"]}, "names 'test/mae', not one of test/acc"),
    ],
)
def test_a_wrong_report_is_one_line(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    given = content()
    given["report"] |= changes
    assert line in refused(tmp_path, given)


def test_a_single_seed_is_refused(tmp_path: Path) -> None:
    given = content()
    given["stages"]["target"]["vary"]["seed_everything"] = [0]
    assert "has one value of 'seed_everything'" in refused(tmp_path, given)


def test_a_search_is_read(tmp_path: Path) -> None:
    search = read_study(write_study(tmp_path, content(search=SEARCH))).search
    assert search is not None
    assert search.over == {"model.lr": Range(0.001, 1.0, log=True)}
    assert (search.stage, search.per, search.sampler) == ("target", ("method",), "tpe")


@pytest.mark.parametrize(
    ("metric", "lower"),
    [("val/acc", False), ("val/a/loss", True), ("val/depth/abs", True), ("val/seg/miou", False)],
)
def test_a_search_goes_the_way_of_its_score(tmp_path: Path, metric: str, *, lower: bool) -> None:
    given = content(search={**SEARCH, "metric": metric})
    search = read_study(write_study(tmp_path, given)).search
    assert search is not None
    assert search.lower_is_better is lower
    given = content(search={**SEARCH, "metric": metric, "lower_is_better": not lower})
    search = read_study(write_study(tmp_path, given)).search
    assert search is not None
    assert search.lower_is_better is not lower


def test_a_search_tunes_every_row_by_default(tmp_path: Path) -> None:
    given = {key: value for key, value in SEARCH.items() if key != "per"}
    search = read_study(write_study(tmp_path, content(search=given))).search
    assert search is not None
    assert search.per == ("method", "data.part")
    search = read_study(write_study(tmp_path, content(search={**given, "per": []}))).search
    assert search is not None
    assert search.per == ()
    search = read_study(write_study(tmp_path, content(search={**given, "stage": "source"}))).search
    assert search is not None
    assert search.per == ()  # its stage varies the seed alone


@pytest.mark.parametrize("metric", ["val/target/oracle", "val/a/oracle_acc", "val/oracle_knn_acc"])
@pytest.mark.parametrize("stated", [{}, {"lower_is_better": False}])
def test_a_search_does_not_choose_by_withheld_labels(
    tmp_path: Path, metric: str, stated: dict[str, bool]
) -> None:
    line = refused(tmp_path, content(search={**SEARCH, "metric": metric, **stated}))
    assert f"`search` cannot monitor `{metric}`: it is computed from labels that training" in line


def test_the_direction_of_an_unknown_score_is_asked_for(tmp_path: Path) -> None:
    unknown = {**SEARCH, "metric": "val/own/err"}
    line = refused(tmp_path, content(search=unknown))
    assert "which way val/own/err is better; set `search.lower_is_better` to true or false." in line
    given = content(search={**unknown, "lower_is_better": True})
    search = read_study(write_study(tmp_path, given)).search
    assert search is not None
    assert search.lower_is_better


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"metric": "test/acc"}, "a search on test would tune on what is reported"),
        ({"seed": 1}, "`search.seed` 1 is one of the study's seeds"),
        ({"trials": 0}, "`search.trials` must be a number of trials per method, got 0"),
        ({"over": {"model.lr": [1, 0]}}, "must rise, from above 0 with log, got 1 to 0"),
        ({"over": {"model.lr": [float("nan"), 1]}}, "two finite numbers, got nan to 1"),
        ({"over": {"model.lr": [1, float("inf")]}}, "two finite numbers, got 1 to inf"),
        ({"lower_is_better": "no"}, "`search.lower_is_better` must be true or false, got 'no'"),
        ({"over": {"model.lr": "log"}}, "must be [low, high], [low, high, log]"),
        (
            {"over": {"data.part": [0, 1]}},
            "`search.over.data.part` is varied by stage 'target' too",
        ),
        ({"per": "methods"}, "`search.per` is 'methods'; stage 'target' varies"),
        ({"sampler": "grid"}, "`search.sampler` must be one of tpe, random, got 'grid'"),
        ({"pruning": "yes"}, "`search.pruning` must be true or false, got 'yes'"),
        ({"per": "seed_everything"}, "`search.per` is 'seed_everything'; the seeds of a row"),
        ({"per": ["method", "method"]}, "`search.per` names 'method' twice"),
        ({"over": {1: [0, 1]}}, "`search.over` must name options, got 1"),
        ({"over": {"model.lr": {"choices": [1, 1]}}}, "`search.over.model.lr`.choices names '1'"),
        ({"over": {"model.lr": {"choices": [1], "log": 1}}}, "`search.over.model.lr` has no 'log'"),
        ({"over": {"model.target": [0, 1]}}, "`search.over.model.target` is set by stage 'target'"),
        ({"over": {"model.init": [0, 1]}}, "`search.over.model.init` is set by stage 'target' too"),
    ],
)
def test_a_wrong_search_is_one_line(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    assert line in refused(tmp_path, content(search={**SEARCH, **changes}))


def test_what_is_compared_against_is_told_apart_by_kind(tmp_path: Path) -> None:
    given = content()
    given["stages"]["target"]["vary"]["data.part"] = [1.0, 0.5]
    given["report"]["against"] = {"data.part": 1}
    assert "`report.against.data.part` is 1, not one of 1.0, 0.5" in refused(tmp_path, given)
