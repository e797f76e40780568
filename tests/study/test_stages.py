from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.studies import content, write_study
from tl.study.study_file import read_study


def refused(folder: Path, stage: str, **changes: Any) -> str:
    given = content()
    given["stages"][stage] |= changes
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as error:
        read_study(write_study(folder, given))
    return str(error.value)


def test_needs_are_checked(tmp_path: Path) -> None:
    itself = refused(tmp_path, "source", needs={"source": {"seed_everything": "same"}})
    assert "stage 'source' needs itself" in itself
    assert "needs 'src', which is not one of" in refused(tmp_path, "target", needs={"src": {}})
    assert "must say which seed_everything" in refused(tmp_path, "target", needs={"source": {}})
    other = refused(tmp_path, "target", needs={"source": {"seed_everything": 7}})
    assert "needs 'source' with seed_everything 7, which has only 0, 1" in other
    circle = refused(tmp_path, "source", needs={"target": {"seed_everything": "same"}})
    assert "must say which method" in circle
    circle = refused(
        tmp_path,
        "source",
        needs={"target": {"seed_everything": "same", "method": "full", "data.part": 0.1}},
    )
    assert "Stages need each other in a circle: source, target" in circle


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"configs": []}, "`configs` must be a list of texts, got []"),
        ({"configs": ["no.yaml"]}, "`configs` names no.yaml, and there is no such file"),
        ({"vary": {"a": []}}, "`vary.a` must be a list of values, or overlays by name, got []"),
        ({"vary": {"a": 1}}, "got 1"),
        ({"vary": {"a": [1, 1]}}, "`vary.a` has a value twice"),
        ({"vary": {"a": {"b": "no.yaml"}}}, "`vary.a.b` names no.yaml"),
        ({"except": {"b": {}}}, "`except.b` is not varied; it varies seed_everything"),
        ({"set": {"log_dir": "a"}}, "`log_dir` is given by the study itself; leave it out"),
        ({"vary": {"name": ["a", "b"]}}, "`name` is given by the study itself"),
        ({"vary": {"a": {"b": {"resume": "auto"}}}}, "`resume` is given by the study itself"),
        ({"varies": {}}, "has no 'varies'; it has configs, vary, needs, set, except"),
    ],
)
def test_a_wrong_stage_is_one_line(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    assert line in refused(tmp_path, "source", **changes)


def test_an_exception_for_a_value_that_is_not_there_is_refused(tmp_path: Path) -> None:
    given = content()
    given["stages"]["target"]["except"] = {"method": {"scrach": {"model.init": None}}}
    path = write_study(tmp_path, given)
    for settings in ((), ("target.method=[full, scratch]",)):
        with pytest.raises(ValueError, match=r"`except\.method` names 'scrach', not one of "):
            read_study(path, settings)
    # a value that --set leaves out takes its exception along
    study = read_study(write_study(tmp_path), ("target.method=[full]", "report.against={}"))
    assert study.stages["target"].exceptions == {}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("set: {3: 1}", "`set` must name options, got 3"),
        ("set: {model.day: 2020-01-01}", "is 2020-01-01, which YAML reads as date; put it in quot"),
        ("vary: {model.day: [2020-01-01], seed_everything: [0, 1]}", "reads as date"),
        ("set: {model.kind: {1: 2}}", "must name options, got 1"),
    ],
)
def test_what_no_command_line_takes_is_refused(tmp_path: Path, text: str, line: str) -> None:
    given = content()
    given["stages"]["target"] |= yaml.safe_load(text)
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as error:
        read_study(write_study(tmp_path, given))
    assert line in str(error.value)


@pytest.mark.parametrize(
    ("stage", "changes", "line"),
    [
        ("target", {"except": {"data.part": {1: {"model.x": 1}}}}, "names 1, not one of 1.0, 0.5"),
        ("target", {"needs": {"source": {"data.part": 1}}}, "with data.part 1, which has only 1.0"),
        ("target", {"set": {"data.part": 1.0}}, "`set` names 'data.part', which varies too"),
    ],
)
def test_a_value_of_another_kind_is_another_value(
    tmp_path: Path, stage: str, changes: dict[str, Any], line: str
) -> None:
    given = content()
    for name in ("source", "target"):
        given["stages"][name]["vary"]["data.part"] = [1.0, 0.5]
    given["stages"][stage] |= changes
    with pytest.raises(ValueError, match=line):
        read_study(write_study(tmp_path, given))


def test_an_axis_of_overlays_may_have_any_name(tmp_path: Path) -> None:
    given = content()
    given["stages"]["source"]["vary"]["name"] = {"a": {"model.size": 3}}
    given["stages"]["target"]["needs"]["source"]["name"] = "a"
    assert read_study(write_study(tmp_path, given)).stages["source"].vary["name"] == ("a",)
