from __future__ import annotations

import pytest

from tl.parser import OneLineParser


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
