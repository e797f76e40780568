"""Our verbs, as a user types them."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch.cli import LightningCLI

from tl.cli import main
from tl.cli.short_forms import LIGHTNINGS
from tl.cli.verbs import check_verb, verb_of


def failure(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line that a mistaken command says."""
    code = main(list(args))
    assert code == 2
    [line] = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("usage")]
    assert line.startswith("tl: ")
    return line


def test_help_lists_our_verbs_beside_lightnings(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--help"])
    assert code == 0
    said = capsys.readouterr().out
    assert "  fit " in said
    assert "  lineage " in said
    assert "  average " in said
    assert main(["lineage", "--help"]) == 0
    assert "usage: tl lineage" in capsys.readouterr().out


def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in failure(capsys, "lineage", str(tmp_path / "no.ckpt"))
    assert "are required: checkpoint" in failure(capsys, "lineage")
    assert "unrecognized arguments: --jsn" in failure(capsys, "lineage", "a.ckpt", "--jsn")


@pytest.mark.parametrize(
    ("arguments", "verb"),
    [
        (["fit", "--config", "a.yaml"], "fit"),
        (["--config", "a.yaml", "fit"], "fit"),
        (["--config=a.yaml", "test"], "test"),
        (["--help"], None),
        (["-c", "a.yaml"], None),
    ],
)
def test_a_verb_stands_behind_options_too(arguments: list[str], verb: str | None) -> None:
    assert verb_of(arguments) == verb
    check_verb(arguments)


def test_a_verb_that_there_is_not_has_a_neighbour() -> None:
    with pytest.raises(ValueError, match="there is no verb 'fitt'; choose fit, validate, test"):
        check_verb(["fitt"])
    with pytest.raises(ValueError, match="Did you mean 'fit'"):
        check_verb(["--config=a.yaml", "fitt"])


def test_lightnings_verbs_are_those_that_it_has() -> None:
    assert list(LightningCLI.subcommands()) == list(LIGHTNINGS)
