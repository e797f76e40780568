from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from tl.cli.parser import OneLineParser


def parser() -> OneLineParser:
    made = OneLineParser(prog="tl")
    made.add_argument("--batch_size", type=int)
    return made


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--batch_sise=3", "tl: unknown option --batch_sise. Did you mean 'batch_size'?"),
        ("--batch_size=many", "tl: batch_size: expected int, got many."),
    ],
)
def test_a_mistake_is_one_line_and_ends_with_2(
    argument: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parser().parse_args([argument])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines() == [said]


def test_the_whole_story_is_told_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TL_DEBUG", "1")
    with pytest.raises(ValueError, match="batch_sise"):
        parser().parse_args(["--batch_sise=3"])


@dataclass
class Inner:
    name: str | None = "a"
    number: float | None = 1.0


class Outer:
    def __init__(self, inner: Inner, named: Mapping[str, Inner] | None = None) -> None:
        self.inner = inner
        self.named = named


@pytest.mark.parametrize("option", ["name", "number"])
def test_null_reaches_options_at_any_depth(option: str) -> None:
    made = OneLineParser(prog="tl")
    made.add_subclass_arguments(Outer, "outer")
    config = made.parse_args(
        [
            f"--outer={__name__}.Outer",
            f"--outer.inner.{option}=null",
            "--outer.named.x={name: b, number: 2}",
            f"--outer.named.x.{option}=null",
            "--outer.named.y={name: None or null, number: null}",
        ]
    )
    values = config.outer.init_args
    assert values.inner[option] is None
    assert values.named["x"][option] is None
    assert dict(values.named["y"].items()) == {"name": "None or null", "number": None}
