from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from tl.cli import main
from tl.cli.listing import KINDS, entries, first_sentence, hanging

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_has_a_line(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind]) == 0
    *rows, empty, use = capsys.readouterr().out.splitlines()
    assert len(rows) >= 7
    assert not empty
    assert use.startswith("use: ")
    assert all(re.fullmatch(r"\S+  +\S.*", row) for row in rows)


def test_methods_stand_with_their_paper() -> None:
    assert "Yu et al., 2020" in dict(entries("balancing"))["pcgrad"]
    assert "Li et al., 2018" in dict(entries("transfer"))["l2_sp"]
    assert "arXiv:1512.03385" in dict(entries("backbones"))["ResNet20"]


@pytest.mark.parametrize(
    ("kind", "package"),
    [("sources", "tl.data"), ("backbones", "tl.backbones"), ("tasks", "tl.tasks")],
)
def test_what_is_listed_can_be_imported(kind: str, package: str) -> None:
    assert all(hasattr(import_module(package), name) for name, _ in entries(kind))


def test_without_configurations_it_says_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tl.cli.listing.PACKAGE", tmp_path / "tl")
    assert main(["list", "balancing"]) == 2
    assert "There is no folder `configs` here" in capsys.readouterr().err


def test_a_sentence_does_not_end_within_a_citation() -> None:
    assert first_sentence("A (Yu et al., 2020), or B. c is 1.") == "A (Yu et al., 2020), or B."
    assert first_sentence("Is it :class:`~tl.A`? More.") == "Is it tl.A?"


def test_a_misspelt_kind_gets_the_close_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "balacing"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("tl: there is no 'balacing' here; choose balancing, transfer, ")
    assert line.endswith("Did you mean 'balancing'?")


def test_a_long_line_hangs_below_its_text() -> None:
    lines = hanging("name  ", "a line that is longer than the terminal", 30).splitlines()
    assert lines == ["name  a line that is longer", "      than the terminal"]
