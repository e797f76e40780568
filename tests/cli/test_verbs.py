"""Our verbs, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lightning.pytorch.cli import LightningCLI

from tests.small import module, tiny_data, trainer
from tl.backbones import ResNet20
from tl.cli import main
from tl.cli.verbs import LIGHTNINGS, check_verb, verb_of


def failure(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line that a mistaken command says."""
    with pytest.raises(SystemExit) as stopped:
        main(list(args))
    assert stopped.value.code == 2
    [line] = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("usage")]
    assert line.startswith("tl: ")
    return line


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(ResNet20().state_dict(), tmp_path / "a.pt")
    return tmp_path / "a.pt"


def test_lineage_prints_text_and_json(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["lineage", str(weights)])
    assert capsys.readouterr().out.startswith("a.pt\n")
    main(["lineage", str(weights), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["path"] == "a.pt"
    assert len(found["sha256"]) == 64


def test_help_lists_our_verbs_beside_lightnings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "    fit " in said
    assert "    lineage " in said
    assert "    average " in said
    with pytest.raises(SystemExit):
        main(["lineage", "--help"])
    assert "usage: tl lineage" in capsys.readouterr().out


def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in failure(capsys, "lineage", str(tmp_path / "no.ckpt"))
    assert "are required: checkpoint" in failure(capsys, "lineage")
    assert "unrecognized arguments: --jsn" in failure(capsys, "lineage", "a.ckpt", "--jsn")


def test_checkpoints_are_averaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = []
    for number in range(2):
        data = tiny_data()
        run = trainer(tmp_path, max_epochs=1, limit_train_batches=1)
        run.fit(module(data), data)
        paths.append(str(tmp_path / f"{number}.ckpt"))
        run.save_checkpoint(paths[-1])
    out = tmp_path / "c.ckpt"
    main(["average", *paths, "--alpha=0.5", "--average-statistics", f"--out={out}"])
    assert "WiSE-FT, alpha 0.5" in capsys.readouterr().out
    assert out.exists()
    main(["lineage", str(out)])
    assert "ingredient, weight 0.5" in capsys.readouterr().out
    again = ("average", *paths, f"--out={out}")
    assert "already exists" in failure(capsys, *again)
    assert "are required: --out" in failure(capsys, "average", *paths)
    assert "not allowed with" in failure(capsys, *again, "--greedy", "--alpha=1")
    assert "invalid float value: 'half'" in failure(capsys, *again, "--alpha=half")
    more = ("fit", "--config=configs/source_cifar10.yaml", f"--ckpt_path={out}")
    assert "no training state" in failure(capsys, *more, f"--log_dir={tmp_path}")


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
