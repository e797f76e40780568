"""The configurations for maps in folders run by the commands in their headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.data.dense.written import write_files, write_published
from tests.test_configs import ROOT, command
from tl.backbones import TorchvisionBackbone
from tl.cli import main
from tl.data.dense.published import PUBLISHED

CLASSES = {"nyuv2": 13, "cityscapes": 7}
TINY = (
    *("--trainer.limit_train_batches=2", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"),
    *("--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false"),
    *("--data.init_args.batch_size=2", "--dashboard.graph=false", "--data.init_args.val_size=0.4"),
    "--model.init_args.backbone=tl.backbones.ResNet18",  # the published one is large
    "--model.init_args.backbone.init_args.stem=imagenet",
)


def recipe(name: str) -> dict[str, Any]:
    """Read a configuration."""
    found: dict[str, Any] = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text())
    return found


def narrow_tasks(name: str) -> list[dict[str, Any]]:
    """Return the tasks of a configuration with heads that train quickly."""
    tasks: list[dict[str, Any]] = recipe(name)["data"]["init_args"]["tasks"]
    return [{**task, "init_args": {**task["init_args"], "width": 8}} for task in tasks]


@pytest.mark.parametrize("name", CLASSES)
def test_network_and_heads_are_those_of_libmtl(name: str) -> None:
    found = recipe(name)
    network = found["model"]["init_args"]["backbone"]
    assert network["class_path"] == "tl.backbones.TorchvisionBackbone"
    backbone = TorchvisionBackbone(**network["init_args"])
    assert not backbone.pretrained  # nothing is downloaded
    assert backbone.eval().maps(torch.zeros(1, 3, 32, 48))[-1].shape == (1, 2048, 4, 6)
    published = {task.name: task for task in PUBLISHED[name].tasks}
    for task in found["data"]["init_args"]["tasks"]:
        given = {**task["init_args"]}
        assert given.pop("decoder") == "tl.tasks.decoders.DeepLab"
        assert task["class_path"] == f"tl.tasks.{type(published[given['name']]).__name__}"
        record = published[given["name"]].record()
        assert all(record[key] == value for key, value in given.items())
    assert len(found["data"]["init_args"]["tasks"]) == len(published)


@pytest.mark.parametrize("name", CLASSES)
def test_a_published_set_trains_by_the_command_in_its_header(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    inverse = name == "cityscapes"
    root = tmp_path / "data" / name
    write_published(root, {"train": 8, "val": 2}, (32, 48), CLASSES[name], inverse=inverse)
    given = command(f"configs/{name}.yaml")
    narrow = f"--data.init_args.tasks={json.dumps(narrow_tasks(name))}"
    main([*given, *TINY, narrow, f"--data.init_args.root={root.parent}", f"--log_dir={tmp_path}"])
    [folder] = tmp_path.glob(f"{name}/version_0")
    results = json.loads((folder / "results.json").read_text())
    wanted = {"val/segmentation/miou", "val/depth/abs", "val/depth/rel"}
    assert (wanted | (set() if inverse else {"val/normals/median"})) <= set(results["metrics"])
    assert results["data"][name]["image_size"] == [32, 48]
    best = folder / "checkpoints" / "best.ckpt"
    assert torch.serialization.get_unsafe_globals_in_checkpoint(best) == []


def test_files_of_ones_own_by_class_paths(tmp_path: Path) -> None:
    root = write_files(tmp_path / "rooms", size=(32, 48))
    config = f"""
name: own
data:
  class_path: tl.data.DenseFolderDataModule
  init_args:
    root: {root}
    size: [32, 40]
    scale: {{depth: 0.001}}
    void: {{kinds: 255}}
    classes: {{kinds: [wall, floor, ceiling, sphere, box, cylinder]}}
    tasks:
      - {{class_path: tl.tasks.Segmentation, init_args: {{name: kinds, num_classes: 6}}}}
      - {{class_path: tl.tasks.Depth, init_args: {{name: depth, loss: berhu}}}}
      - {{class_path: tl.tasks.BinaryMap, init_args: {{name: ground, target: floor}}}}
model:
  class_path: tl.modules.MultiTaskModule
"""
    for split in ("train", "test"):
        (root / split / "segmentation").rename(root / split / "kinds")
    (tmp_path / "own.yaml").write_text(config)
    main(["fit", f"--config={tmp_path / 'own.yaml'}", *TINY, f"--log_dir={tmp_path}"])
    best = tmp_path / "own" / "version_0" / "checkpoints" / "best.ckpt"
    main(["test", f"--config={tmp_path / 'own.yaml'}", *TINY, f"--ckpt_path={best}"])
    results = json.loads((best.parents[1] / "results.json").read_text())
    assert {"val/kinds/miou", "val/depth/delta1", "val/ground/iou"} <= set(results["metrics"])
    assert results["data"]["rooms"]["class_names"]["kinds"][1] == "floor"


def test_without_the_arrays_one_line_says_what_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    given = [*command("configs/nyuv2.yaml"), *TINY, f"--data.init_args.root={tmp_path}"]
    assert main(given) != 0
    [line] = [line for line in capsys.readouterr().err.splitlines() if "Expected" in line]
    assert "{train,val}/{image,label,depth,normal}/0.npy" in line
