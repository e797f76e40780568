from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.studies import write_study
from tl.study.definition import are_apart, damage, define, difference_to
from tl.study.points import points_of
from tl.study.study_file import read_study


@pytest.mark.parametrize(
    ("settings", "line", "apart"),
    [
        ((), "", False),
        (("data.init_args.root=/elsewhere",), "", False),
        (("seed_everything=[1, 0]",), "", False),
        (("seed_everything=[0, 1, 2]",), "5 more, such as source/seed=2", False),
        (("seed_everything=[0, 3]",), "5 more, such as source/seed=3 and 5 fewer", False),
        (("data.init_args.root=/b", "model.size=7"), "model.size was", True),
        (("model.size=7",), 'model.size was "not set" and is 7 in source/seed=0', True),
    ],
)
def test_what_differs_is_said(
    tmp_path: Path, settings: tuple[str, ...], line: str, *, apart: bool
) -> None:
    path = write_study(tmp_path)
    points = points_of(read_study(path))
    assert difference_to(points, tmp_path) == ""
    define("Why?", points, tmp_path)
    changed = points_of(read_study(path, settings))
    said = difference_to(changed, tmp_path)
    assert said.startswith(line)
    assert bool(said) == bool(line)
    assert are_apart(changed, tmp_path) is apart


def test_names_that_are_cut_are_counted_by_run(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    points = points_of(read_study(path))
    define("Why?", points, tmp_path)
    content = json.loads((tmp_path / "study.json").read_text())
    for run in content["runs"].values():  # as where the seed found no place in the name
        run["label"] = run["label"].partition("seed=")[0] + "a-long-name"
    (tmp_path / "study.json").write_text(json.dumps(content))
    assert difference_to(points, tmp_path) == ""
    more = points_of(read_study(path, ("seed_everything=[0, 1, 2]",)))
    assert difference_to(more, tmp_path) == "5 more, such as source/seed=2"
    others = points_of(read_study(path, ("seed_everything=[0, 3]",)))
    said = difference_to(others, tmp_path)
    assert said == "5 more, such as source/seed=3 and 5 fewer, such as source/a-long-name"


@pytest.mark.parametrize(
    "runs",
    [[1], {}, {"a": 1}, {"a": {"hash": "x"}}, {"a": {"hash": "x", "label": 1, "options": []}}],
)
def test_a_damaged_record_is_none_and_said(tmp_path: Path, runs: object) -> None:
    points = points_of(read_study(write_study(tmp_path)))
    assert not damage(tmp_path)
    (tmp_path / "study.json").write_text(json.dumps({"runs": runs}))
    assert damage(tmp_path).startswith(f"{tmp_path / 'study.json'} is damaged")
    assert difference_to(points, tmp_path) == ""
    assert not are_apart(points, tmp_path)
    define("Why?", points, tmp_path)
    assert not damage(tmp_path)


def test_a_record_with_one_damaged_run_is_said(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    define("Why?", points_of(read_study(path)), tmp_path)
    content = json.loads((tmp_path / "study.json").read_text())
    del next(iter(content["runs"].values()))["hash"]
    (tmp_path / "study.json").write_text(json.dumps(content))
    assert damage(tmp_path)
    (tmp_path / "study.json").write_text(json.dumps(content)[:-9])
    assert damage(tmp_path)
