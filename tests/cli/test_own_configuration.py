"""A checkpoint alone is enough to evaluate it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tl.cli.own_configuration import with_own_configuration


def test_the_configuration_beside_a_checkpoint_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "version_0" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"tl": {"configuration": {"data": {"x": 1}}}}, path)
    for given in ([f"--ckpt_path={path}"], ["--ckpt_path", str(path)]):
        found = with_own_configuration(["predict", *given])
        assert json.loads(found[1].partition("=")[2]) == {"data": {"x": 1}}
    config = path.parents[1] / "config.yaml"
    config.write_text("model: 1")
    assert with_own_configuration(["test", f"--ckpt_path={path}", "--x=1"]) == [
        *("test", f"--config={config}", f"--ckpt_path={path}", "--x=1")
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "--ckpt_path=a.ckpt"],
        ["test", "--config=configs/multitask.yaml", "--ckpt_path=a.ckpt"],
        ["test", "-c", "configs/multitask.yaml", "--ckpt_path=a.ckpt"],
        ["test", '--config={"data": "my.Data"}', "--ckpt_path=a.ckpt"],
        ["test", "--config=missing.yaml", "--ckpt_path=a.ckpt"],
        ["test", "--help"],
        ["test"],
        [],
    ],
)
def test_other_commands_stay_as_they_are(
    arguments: list[str], repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    assert with_own_configuration(arguments) == arguments


@pytest.mark.parametrize("overlay", ["adaptation/tent", "shifts/fog", "overlays/quick"])
def test_an_overlay_follows_the_configuration_of_the_run(
    tmp_path: Path, overlay: str, repository: Path
) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"tl": {"configuration": {"data": {"x": 1}}}}, path)
    given = [f"--ckpt_path={path}", f"--config={repository}/configs/{overlay}.yaml"]
    found = with_own_configuration(["test", *given])
    assert found == ["test", '--config={"data": {"x": 1}}', *given]


def test_without_a_configuration_the_command_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"a\.ckpt contains no configuration"):
        with_own_configuration(["test", f"--ckpt_path={tmp_path / 'a.ckpt'}"])
