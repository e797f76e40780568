from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies import write_study
from tl.study.definition import are_apart, define, difference_to
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
