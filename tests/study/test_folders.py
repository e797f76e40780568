from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.studies import write_study
from tl.reading import read_object
from tl.study.folders import RunFolders, write_object
from tl.study.points import Point, points_of
from tl.study.study_file import read_study


@pytest.fixture
def point(tmp_path: Path) -> Point:
    return next(iter(points_of(read_study(write_study(tmp_path))).values()))


def leave(folder: Path, version: int, **results: object) -> Path:
    path = folder / f"version_{version}"
    path.mkdir(parents=True)
    (path / "results.json").write_text(json.dumps(results))
    return path


def test_a_folder_tells_how_far_a_run_is(tmp_path: Path, point: Point) -> None:
    folders = RunFolders(tmp_path)
    assert folders.state(point) == "unfinished"
    folders.write(point, "failed.json", {"error": "it broke"})
    assert folders.state(point) == "failed"
    assert folders.failure(point) == "it broke"
    folders.forget_failure(point)
    leave(folders.of(point), 0, metrics={"val/acc": 0.5}, steps=None)  # killed before its end
    assert not folders.is_trained(point)
    leave(folders.of(point), 10, metrics={"val/acc": 0.5}, steps=4)
    assert folders.state(point) == "unfinished"
    assert folders.is_trained(point)
    (folders.of(point) / "version_10" / "results.json").write_text(
        json.dumps({"metrics": {"test/acc": 0.5}, "steps": 4})
    )
    assert folders.state(point) == "done"


def test_the_best_checkpoint_is_the_one_that_the_run_names(tmp_path: Path, point: Point) -> None:
    folders = RunFolders(tmp_path)
    with pytest.raises(ValueError, match="has no best checkpoint"):
        folders.best(point)
    version = leave(folders.of(point), 1, best={"checkpoint": "../version_0/best.ckpt"})
    with pytest.raises(ValueError, match="and it is gone"):
        folders.best(point)
    (version.parent / "version_0").mkdir()
    (version.parent / "version_0" / "best.ckpt").write_text("")
    assert folders.best(point) == version.parent / "version_0" / "best.ckpt"


def test_a_run_is_held_by_one(tmp_path: Path, point: Point) -> None:
    folders = RunFolders(tmp_path)
    with folders.locked(point) as held:
        assert held is not None
        with folders.locked(point) as second:
            assert second is None
        assert folders.silence(point) < 60
    with folders.locked(point) as again:
        assert again is not None
    other = RunFolders(tmp_path / "elsewhere")
    assert other.silence(point) > time.time()


def test_curves_are_those_of_all_versions(tmp_path: Path, point: Point) -> None:
    folders = RunFolders(tmp_path)
    for number, text in enumerate(("step,a\n1,0.5\n2,\n", "step,a\n3,0.75\n")):
        version = leave(folders.of(point), number)
        (version / "metrics.csv").write_text(text)
    assert folders.curve(point, "a") == [(1, 0.5), (3, 0.75)]


def test_of_a_step_in_several_versions_the_newest_counts(tmp_path: Path, point: Point) -> None:
    folders = RunFolders(tmp_path)
    for number in (9, 10):  # in this order by number, not by name
        version = leave(folders.of(point), number)
        (version / "metrics.csv").write_text(f"step,a\n1,{number}\n")
    assert folders.curve(point, "a") == [(1, 10.0)]


def test_files_are_whole_or_absent(tmp_path: Path) -> None:
    write_object(tmp_path / "a.json", {"a": 1})
    assert read_object(tmp_path / "a.json") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    (tmp_path / "a.json").write_text("{")
    assert read_object(tmp_path / "a.json") == {}


@pytest.mark.parametrize(
    "content",
    [{"metrics": [1]}, {"steps": "x"}, {"metrics": {"a": "b"}}, {"scores": [1]}, {"best": 3}],
)
def test_results_that_no_run_writes_are_none(
    tmp_path: Path, point: Point, content: dict[str, object]
) -> None:
    folders = RunFolders(tmp_path)
    version = leave(folders.of(point), 0, **{"metrics": {"test/acc": 1.0}, "steps": 1, **content})
    (version / "config.yaml").write_text("a: {")
    assert folders.results(point) == {}
    assert folders.state(point) == "unfinished"
    assert folders.configuration(point) == {}
