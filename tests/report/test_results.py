from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tl.report.closing import closing_table
from tl.report.compare import compare
from tl.report.results import read_configuration, read_results
from tl.report.tested import read_tested

WHOLE = {
    "metrics": {"val/acc": 0.5, "test/acc": 0.4, "test/auc": None},
    "scores": {"a": {"acc": "max"}},
    "best": {"checkpoint": "checkpoints/best.ckpt", "monitor": "val/acc", "score": 0.5},
    "steps": 1,
    "epochs": 1,
    "samples": {"test": {"a": {"from": 1, "of": None}}, "val": None},
    "data": {"a": {"fingerprint": "x"}, "rows": 64},
    "evaluated": {"test": {"checkpoint": "x", "metrics": {"test/acc": 0.4}, "samples": None}},
    "resumed_from": None,
    "seconds": 1.0,
}


def test_whole_results_are_read(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    assert read_results(path) == {}
    path.write_text(json.dumps(WHOLE))
    assert read_results(path) == WHOLE
    assert read_tested(tmp_path).metrics == {"val/acc": 0.5, "test/acc": 0.4}


@pytest.mark.parametrize(
    ("part", "value", "fault"),
    [
        ("metrics", [1], "`metrics` must be a mapping, got [1]"),
        ("metrics", {"test/acc": "x"}, "`metrics.test/acc` cannot be x"),
        ("scores", {"a": 1}, "`scores.a` must be a mapping, got 1"),
        ("best", 3, "`best` must be a mapping, got 3"),
        ("best", {"checkpoint": [1]}, "`best.checkpoint` cannot be [1]"),
        ("best", {"metrics": [1]}, "`best.metrics` must be a mapping, got [1]"),
        ("steps", "x", "`steps` cannot be x"),
        ("seconds", [1], "`seconds` cannot be [1]"),
        ("samples", {"test": {"a": {"of": 1}}}, "`samples.test.a.from` cannot be null"),
        ("data", [1], "`data` must be a mapping, got [1]"),
        ("evaluated", {"test": {"adaptation": [1]}}, "`evaluated.test.adaptation.0` must be a map"),
        ("evaluated", {"test": {"samples": {"a": 1}}}, "`evaluated.test.samples.a` must be a mapp"),
        ("resumed_from", 3, "`resumed_from` cannot be 3"),
    ],
)
def test_every_reader_names_damaged_results(
    tmp_path: Path, part: str, value: Any, fault: str
) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({**WHOLE, part: value}))
    for read in (compare, read_tested, closing_table):
        with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as error:
            read(tmp_path)
        assert str(error.value).startswith(f"{path} is damaged: {fault}")


@pytest.mark.parametrize("text", ["", '{"metrics": {"a', "[" * 100_000, "\0", "null", "[1]"])
def test_what_is_no_json_object_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"\A[^\n]+results\.json (cannot be read|is dam)[^\n]+\Z"):
        read_results(path)


@pytest.mark.parametrize("text", ["a: {", "[1]", "3", "a: &a [*a]"])
def test_a_broken_configuration_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    assert read_configuration(path) == {}
    path.write_text(text)
    (tmp_path / "results.json").write_text(json.dumps(WHOLE))
    for read in (compare, read_tested):
        with pytest.raises(ValueError, match=r"\A[^\n]*config\.yaml [^\n]+\Z"):
            read(tmp_path)


def test_odd_values_in_a_configuration_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("trainer: [1]\nseed_everything: [1]")
    (tmp_path / "results.json").write_text(json.dumps(WHOLE))
    assert read_tested(tmp_path).seed is None


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "results.json")
    with pytest.raises(ValueError, match="is a pipe or a device"):
        read_results(tmp_path / "results.json")
