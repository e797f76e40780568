"""The configurations for maps in folders run by the commands in their headers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.data.dense.written import write_published
from tests.test_configs import ROOT, command
from tl.cli import main

CLASSES = {"nyuv2": 13, "cityscapes": 7}
TINY = (
    *("--trainer.limit_train_batches=2", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"),
    *("--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false"),
    *("--data.init_args.batch_size=2", "--dashboard.graph=false", "--data.init_args.val_size=0.4"),
    "--model.init_args.backbone=tl.backbones.ResNet18",  # the published one is large
    "--model.init_args.backbone.init_args.stem=imagenet",
)


@pytest.mark.parametrize("name", CLASSES)
def test_a_published_set_trains_by_the_command_in_its_header(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    inverse = name == "cityscapes"
    root = tmp_path / "data" / name
    write_published(root, {"train": 8, "val": 2}, (32, 48), CLASSES[name], inverse=inverse)
    given = command(f"configs/{name}.yaml")
    main([*given, *TINY, f"--data.init_args.root={root.parent}", f"--log_dir={tmp_path}"])
    [folder] = tmp_path.glob(f"{name}/version_0")
    results = json.loads((folder / "results.json").read_text())
    wanted = {"val/segmentation/miou", "val/depth/abs", "val/depth/rel"}
    assert (wanted | (set() if inverse else {"val/normals/median"})) <= set(results["metrics"])
    assert results["data"][name]["image_size"] == [32, 48]
    best = folder / "checkpoints" / "best.ckpt"
    assert torch.serialization.get_unsafe_globals_in_checkpoint(best) == []


def test_without_the_arrays_one_line_says_what_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit):
        main([*command("configs/nyuv2.yaml"), *TINY, f"--data.init_args.root={tmp_path}"])
    [line] = [line for line in capsys.readouterr().err.splitlines() if "Expected" in line]
    assert "{train,val}/{image,label,depth,normal}/0.npy" in line
