"""The configuration for rooms: its command, every way of balancing, every way of transferring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.balancing.conftest import micro_batches
from tests.test_configs import ROOT, command
from tl.cli import main
from tl.transfer import read_checkpoint

CONFIG, QUICK = "configs/scenes.yaml", "configs/overlays/quick_scenes.yaml"
TASKS = ("segmentation", "depth", "normals", "objects")
BALANCING = sorted(path.stem for path in ROOT.glob("configs/balancing/*.yaml"))
# what these compare are the classes of samples
CLASSES = {
    "co_tuning": "CoTuning works on one task; set `task` to one of",
    "delta": "DELTA works on one task; set `task` to one of",
    "distillation": "Distillation works on one task; set `task` to one of",
    "ewc": "the source must be a classification with one class per sample",
    "lwf": "the source must be a classification with one class per sample",
}
TRANSFER = sorted(
    path.stem for path in ROOT.glob("configs/transfer/*.yaml") if path.stem not in CLASSES
)
TINY = (
    *("--data.init_args.train_size=40", "--data.init_args.test_size=8", "--data.init_args.size=16"),
    *("--data.init_args.batch_size=8", "--trainer.limit_train_batches=2", "--trainer.max_epochs=1"),
    *("--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1", "--dashboard.graph=false"),
    *("--trainer.enable_progress_bar=false", "--dashboard.every_n_epochs=0"),
)
SHOWN = ("--data.init_args.look=night", "--dashboard.every_n_epochs=1")
_BALANCER = "--model.init_args.balancer.init_args.weights"
_SOURCE = "--model.init_args.penalties.init_args.data"
MORE: dict[str, tuple[str, ...]] = {
    # weights that the overlays give to two tasks
    "static": (f"{_BALANCER}={{segmentation: 1.0, depth: 1.0, normals: 2.0, objects: 0.5}}",),
    "pbi": (f"{_BALANCER}=[0.25, 0.25, 0.25, 0.25]",),
    "cosmos": (f"{_BALANCER}=[0.25, 0.25, 0.25, 0.25]",),
    "ewc": (f"{_SOURCE}={{class_path: tl.data.SyntheticScenesDataModule}}",),
    "lora": ("--model.init_args.backbone.init_args.backbone.class_path=tl.backbones.ResNet20",),
    "lp_ft": ("--trainer.max_epochs=2",),  # a part each
}


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def fit(folder: Path, *given: str) -> dict[str, Any]:
    """Run the configuration on tiny rooms; return what it reached."""
    given = ("--config", CONFIG, "--config", QUICK, *given, f"--log_dir={folder}")
    if code := main(["fit", *given]):
        raise SystemExit(code)
    results: dict[str, Any] = json.loads((folder / "scenes/version_0/results.json").read_text())
    return results


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A network that has learned the other look, by the command in the header."""
    folder, patch = tmp_path_factory.mktemp("source"), pytest.MonkeyPatch()
    patch.chdir(ROOT)
    main([*command(QUICK), *TINY, *SHOWN, f"--log_dir={folder}"])
    patch.undo()
    return str(folder / "scenes" / "version_0" / "checkpoints" / "best.ckpt")


def test_the_command_in_the_header_learns_four_tasks(source: str) -> None:
    assert command(CONFIG)[-1] == CONFIG
    folder = Path(source).parents[1]
    results = json.loads((folder / "results.json").read_text())
    scores = {"segmentation/miou", "depth/abs", "normals/mean", "objects/map"}
    assert {f"val/{score}" for score in scores} <= results["metrics"].keys()
    assert results["data"]["scenes"]["kind"] == "generated"
    assert torch.serialization.get_unsafe_globals_in_checkpoint(source) == []
    assert [task["name"] for task in read_checkpoint(source)["tl"]["tasks"]] == list(TASKS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BALANCING)
def test_every_balancing_overlay_trains(name: str, tmp_path: Path) -> None:
    batches = f"--trainer.limit_train_batches={2 * micro_batches(name)}"
    given = ("--config", f"configs/balancing/{name}.yaml", *TINY, batches, *MORE.get(name, ()))
    results = fit(tmp_path, *given)
    assert results["steps"] == 2
    metrics = results["metrics"]
    assert all(isinstance(metrics[f"val/{task}/loss"], float) for task in TASKS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TRANSFER)
def test_every_transfer_overlay_trains(name: str, source: str, tmp_path: Path) -> None:
    given = ("--config", f"configs/transfer/{name}.yaml", *TINY, *MORE.get(name, ()))
    results = fit(tmp_path, *given, f"--model.init_args.init_from={source}")
    assert results["steps"] > 0
    assert results["provenance"]["tasks"][0]["kind"] == "segmentation"
    metrics = results["metrics"]
    assert all(isinstance(metrics[f"val/{task}/loss"], float) for task in TASKS)


@pytest.mark.parametrize("name", CLASSES)
def test_penalties_on_classes_of_samples_are_refused_in_one_line(
    name: str, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--config", f"configs/transfer/{name}.yaml", *TINY)
    with pytest.raises(SystemExit) as stopped:
        fit(tmp_path, *given, *MORE.get(name, ()), f"--model.init_args.init_from={source}")
    assert stopped.value.code in (1, 2)
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tl: ")]
    assert CLASSES[name] in line


def test_the_recipe() -> None:
    config = yaml.safe_load((ROOT / CONFIG).read_text())
    assert config["data"]["init_args"]["tasks"] == list(TASKS)
    assert "balancer" not in config["model"]["init_args"]  # the sum
    assert config["model"]["init_args"]["backbone"]["class_path"] == "tl.backbones.ResNet18"
    assert config["model"]["init_args"]["scheduler"]["class_path"] == "tl.modules.WarmupCosine"
    assert config["trainer"]["precision"] is None
