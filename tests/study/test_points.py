from __future__ import annotations

from pathlib import Path

import pytest

from tests.studies import content, write_study
from tests.study.test_sections import SEARCH
from tl.study.points import points_of
from tl.study.study_file import read_study


def test_every_combination_is_a_run(tmp_path: Path) -> None:
    points = points_of(read_study(write_study(tmp_path)))
    assert len(points) == 2 + 8
    target = [point for point in points.values() if point.stage == "target"]
    assert [p.values["seed_everything"] for p in target] == [0] * 4 + [1] * 4  # seed by seed
    for point in target:
        if point.values["method"] == "scratch":  # left out by the exception
            assert point.needs == {}
            assert point.options["model.init"] is None
        else:
            seed = point.values["seed_everything"]
            assert points[point.needs["source"]].values == {"seed_everything": seed}
            assert point.configs == ("base.yaml", "more.yaml")
    assert next(iter(points)).startswith("source/seed=0-")


def test_the_hash_follows_the_content_of_what_a_run_needs(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    before = points_of(read_study(path))
    changed = points_of(read_study(path, ["source.model.size=9"]))
    same = {name for name in changed if name in before}
    assert all("method=scratch" in name for name in same)
    assert len(same) == 4
    (tmp_path / "more.yaml").write_text("model: {size: 3}\n")
    assert len({*points_of(read_study(path))} & {*before}) == 6  # sources and scratch


def test_a_search_adds_the_same_trials_for_each_method(tmp_path: Path) -> None:
    points = points_of(read_study(write_study(tmp_path, content(search=SEARCH))))
    trials = [point for point in points.values() if point.trial is not None]
    assert [(p.group, p.trial) for p in trials] == [
        (("scratch",), 0),
        (("scratch",), 1),
        (("scratch",), 2),
        (("full",), 0),
        (("full",), 1),
        (("full",), 2),
    ]
    assert {p.values["seed_everything"] for p in trials} == {100}
    # the source is trained with the trials' seed, too
    assert sum(p.stage == "source" for p in points.values()) == 3
    reported = [p for p in points.values() if p.stage == "target" and p.trial is None]
    assert all(sum(k.startswith("trial ") for k in p.needs) == 3 for p in reported)


def test_every_row_has_trials_of_its_own_by_default(tmp_path: Path) -> None:
    search = {key: value for key, value in SEARCH.items() if key != "per"}
    points = points_of(read_study(write_study(tmp_path, content(search=search))))
    trials = {name: point for name, point in points.items() if point.trial is not None}
    rows = [(method, part) for method in ("scratch", "full") for part in (0.1, 0.5)]
    assert [point.group for point in trials.values()] == [row for row in rows for _ in range(3)]
    for point in points.values():
        if point.stage == "target" and point.trial is None:
            own = [trials[name] for key, name in point.needs.items() if key.startswith("trial ")]
            assert len(own) == 3
            for trial in own:
                assert trial.values["method"] == point.values["method"]
                assert trial.values["data.part"] == point.values["data.part"]


def test_runs_that_are_the_same_are_refused(tmp_path: Path) -> None:
    given = content()
    given["stages"]["target"]["vary"]["method"] = {"scratch": {}, "other": {"model.init": None}}
    with pytest.raises(ValueError, match="Two runs of stage 'target' have the same configuration"):
        points_of(read_study(write_study(tmp_path, given)))


def test_a_reference_needs_its_stage(tmp_path: Path) -> None:
    given = content()
    del given["stages"]["target"]["needs"]
    with pytest.raises(ValueError, match=r"refers to \{source.best\} and does not need it"):
        points_of(read_study(write_study(tmp_path, given)))


def test_values_may_be_lists_and_mappings(tmp_path: Path) -> None:
    given = content(search={**SEARCH, "per": "model.kind"})
    kinds = [{"class_path": "a.A"}, [1, 2]]
    given["stages"]["target"]["vary"] |= {"model.kind": kinds}
    given["report"]["rows"].append("model.kind")
    points = points_of(read_study(write_study(tmp_path, given)))
    trials = [point.group for point in points.values() if point.trial is not None]
    assert trials == [(kinds[0],)] * 3 + [(kinds[1],)] * 3


def test_data_in_several_folders_are_several_runs(tmp_path: Path) -> None:
    root = "data.init_args.root"
    given = content()
    given["stages"]["source"]["vary"][root] = ["/a", "/b"]
    given["stages"]["target"]["needs"]["source"][root] = "/b"
    points = points_of(read_study(write_study(tmp_path, given)))
    sources = [point for point in points.values() if point.stage == "source"]
    assert [point.values[root] for point in sources] == ["/a", "/b"] * 2
    # where all data lie is not what a run is
    moved = read_study(write_study(tmp_path), ["data.init_args.root=/elsewhere"])
    assert list(points_of(moved)) == list(points_of(read_study(write_study(tmp_path))))


def test_a_title_names_what_a_folder_has_no_place_for(tmp_path: Path) -> None:
    given = content()
    long = "a_method_whose_name_alone_would_fill_the_name_of_the_folder"
    given["stages"]["target"]["vary"]["method"] = {"scratch": {}, long: "more.yaml"}
    points = points_of(read_study(write_study(tmp_path, given)))
    [first, *_] = [p for p in points.values() if p.values.get("method") == long]
    assert "seed=0" not in first.name
    assert first.title == f"{first.name} (method={long}, part=0.1, seed=0)"
    assert next(iter(points.values())).title == next(iter(points))


def test_of_a_stage_only_the_best_checkpoint_is_known(tmp_path: Path) -> None:
    given = content()
    given["stages"]["target"]["set"]["model.init"] = "{source.last}"
    with pytest.raises(ValueError, match=r"refers to \{source\.last\}; of a stage's runs only "):
        points_of(read_study(write_study(tmp_path, given)))
    given["stages"]["target"]["set"]["model.init"] = "{epoch.step}"  # no stage's
    given["stages"]["target"]["except"] = {}
    assert points_of(read_study(write_study(tmp_path, given)))
