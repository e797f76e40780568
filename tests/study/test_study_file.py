from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.studies import content, write_study
from tests.study.test_sections import SEARCH
from tl.study.points import points_of
from tl.study.schema import Range
from tl.study.study_file import read_study


def refused(folder: Path, *settings: str, **changes: Any) -> str:
    path = write_study(folder, content(**changes))
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as error:
        read_study(path, settings)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


def test_a_study_is_read(tmp_path: Path) -> None:
    study = read_study(write_study(tmp_path))
    assert study.name == "small"
    assert list(study.stages) == ["source", "target"]
    assert study.stages["target"].vary["method"] == ("scratch", "full")
    assert study.stages["target"].overlays["method"]["full"].configs == ("more.yaml",)
    assert study.report.pairs == "seed_everything"
    assert study.report.stage == "target"


def test_the_command_line_changes_values(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    settings = ("seed_everything=[0, 1, 2]", "target.method=[full, scratch]", "model.size=3")
    study = read_study(path, (*settings, "report.metric=test/loss"))
    assert study.stages["source"].vary["seed_everything"] == (0, 1, 2)
    assert study.stages["target"].vary["method"] == ("full", "scratch")
    assert study.stages["target"].options["model.size"] == 3
    assert study.stages["source"].options["model.size"] == 3
    assert study.report.metrics == ("test/loss",)
    assert study.report.lower_is_better == ("test/loss",)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("target.method=[probe]", "'probe' is not one of scratch, full"),
        ("target", "`--set` must be KEY=VALUE, got 'target'"),
        ("model.size={", "'{' is not YAML"),
        ("target.method=[[1]]", "[1] is not one of scratch, full"),
        ("report=1", "`report` must be a mapping, got 1"),
        ("target={}", "`--set target` would replace whole stages"),
        ("report.metrics=a", "`report` has no 'metrics'; it has stage, metric"),
    ],
)
def test_a_wrong_change_is_one_line(tmp_path: Path, setting: str, line: str) -> None:
    assert line in refused(tmp_path, setting)


def test_a_wrong_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no study file .*none\.yaml"):
        read_study(tmp_path / "none.yaml")
    (tmp_path / "a.yaml").write_text("- 1")
    with pytest.raises(ValueError, match="the file must be a mapping"):
        read_study(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("a: {")
    with pytest.raises(ValueError, match="cannot be read"):
        read_study(tmp_path / "a.yaml")
    assert "`question` must be a sentence" in refused(tmp_path, question="")
    assert "the file has no 'stage'; it has question, stages" in refused(tmp_path, stage={})
    assert "`stages` must name at least one" in refused(tmp_path, stages={})


def test_every_study_of_ours_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parents[2]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(root / "configs")
    # what the commands in the header of task_groups.yaml write before
    chosen = tmp_path / "lightning_logs" / "group" / "partitions" / "chosen.yaml"
    chosen.parent.mkdir(parents=True)
    chosen.write_text("{}")
    paths = sorted(root.glob("configs/studies/*.yaml"))
    assert paths
    for path in paths:
        study = read_study(path)
        assert len(study.stages[study.report.stage].vary[study.report.pairs]) >= 3
        assert f"python -m tl.cli study run configs/studies/{path.name}" in path.read_text()
        assert yaml.safe_load(path.read_text())["question"].endswith("?")


def test_the_command_line_wins_over_what_rows_set(tmp_path: Path) -> None:
    given = content()
    given["stages"]["target"]["vary"]["method"] = {
        "scratch": {"model.size": 8},
        "full": {"model.depth": 2, "model.size": 9},
    }
    path = write_study(tmp_path, given)
    points = points_of(read_study(path, ("model.size=3", "model.init=x")))
    sizes = [point.options["model.size"] for point in points.values()]
    assert sizes == [3] * 10
    target = [point for point in points.values() if point.stage == "target"]
    assert {point.options["model.init"] for point in target} == {"x"}


def test_parts_of_the_report_and_the_search_are_changed(tmp_path: Path) -> None:
    path = write_study(tmp_path, content(search=SEARCH))
    study = read_study(path, ("report.against.method=full", "search.over.model.lr=[0.1, 0.2]"))
    assert study.report.against == {"method": "full"}
    assert study.search is not None
    assert study.search.over == {"model.lr": Range(0.1, 0.2)}
    assert read_study(path, ("search=null",)).search is None


def test_stages_that_share_a_part_change_apart(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    path.write_text(
        """
question: Does an alias change both?
stages:
  source: {configs: [base.yaml], vary: &seeds {seed_everything: [0, 1], data.part: [1]}}
  other: {configs: [more.yaml], vary: *seeds}
report: {metric: test/acc, rows: [data.part]}
"""
    )
    study = read_study(path, ("source.seed_everything=[5, 6]",))
    assert study.stages["source"].vary["seed_everything"] == (5, 6)
    assert study.stages["other"].vary["seed_everything"] == (0, 1)


@pytest.mark.parametrize(
    ("row", "setting"),
    [
        ({"model.opt": {"init_args": {"lr": 1}}}, "model.opt.init_args.lr=2"),
        ({"model.opt.init_args.lr": 1}, "model.opt={init_args: {lr: 2}}"),
    ],
)
def test_what_rows_set_in_part_is_not_half_obeyed(
    tmp_path: Path, row: dict[str, object], setting: str
) -> None:
    given = content()
    given["stages"]["target"]["vary"]["method"]["full"] = row
    with pytest.raises(ValueError, match=f"rows set {next(iter(row))} for themselves"):
        read_study(write_study(tmp_path, given), [setting])


@pytest.mark.parametrize("part", ["vary", "set", "except"])
def test_a_broken_stage_is_one_line_whatever_is_changed(tmp_path: Path, part: str) -> None:
    given = content()
    given["stages"]["target"][part] = [1]
    with pytest.raises(ValueError, match=f"stage 'target': `{part}` must be a mapping, got .1."):
        read_study(write_study(tmp_path, given), ["model.size=1"])
