"""Every YAML is run, found by a glob, and says how."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from tests.small import every_strategy
from tl.cli import main
from tl.transfer import read_checkpoint

ROOT = Path(__file__).resolve().parents[1]
# text, rooms and maps in folders have their own tests: test_{text,scene,dense}_configs
RUNS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.glob("configs/*.yaml")
    if not path.name.startswith(("text_", "scenes"))
    and "DenseFolderDataModule" not in path.read_text()
)
OVERLAYS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.glob("configs/*/*.yaml")
    if path.parent.name != "studies"  # many runs each, read in tests/study
    # one of 18 that differ in a word, read in tests/data/shifts
    and (path.parent.name != "shifts" or path.stem == "fog")
)
OVERLAYS.remove("configs/overlays/quick_text.yaml")
OVERLAYS.remove("configs/overlays/quick_scenes.yaml")
STRATEGIES = [
    path for path in OVERLAYS if re.search(r"^ +strategy:", (ROOT / path).read_text(), re.MULTILINE)
]
TINY = (
    *("--config", "configs/overlays/quick.yaml", "--data.init_args.images=generated"),
    *("--data.init_args.generated_size=200", "--trainer.limit_train_batches=2"),
    *("--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1"),
    *("--data.init_args.label_fraction=1", "--trainer.enable_progress_bar=false"),
    *("--dashboard.graph=false", "--dashboard.every_n_epochs=0"),  # drawing is half of such a run
)
PICTURES = "--dashboard.every_n_epochs=1"
_SOURCE_DATA = "--model.init_args.penalties.init_args.data.init_args"
MORE = {
    "configs/balancing/sdmgrad.yaml": (  # three batches a step
        "--trainer.limit_train_batches=3",
        "--data.init_args.batch_size=32",
    ),
    "configs/transfer/ewc.yaml": (
        f"{_SOURCE_DATA}.images=generated",
        f"{_SOURCE_DATA}.generated_size=200",
        "--model.init_args.penalties.init_args.images=5",
    ),
    "configs/tasks/prototypes_cifar_fs.yaml": (  # 200 images are two of each class
        "--data.init_args.shots=1",
        "--data.init_args.queries=1",
        "--data.init_args.eval_episodes=2",
    ),
    "configs/transfer/lp_ft.yaml": ("--trainer.max_epochs=2",),  # a part each
}
for _path in sorted(ROOT.glob("configs/backbones/*.yaml")):  # once more: the quick run has its own
    _name = _path.relative_to(ROOT).as_posix()
    MORE[_name] = (
        *("--config", _name),
        "--model.init_args.backbone.init_args.backbone=tl.backbones.ResNet20",
    )


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def command(path: str) -> list[str]:
    """The command in a config's header: what follows ``tl.cli``."""
    header = re.match(r"(?:#.*\n)+", (ROOT / path).read_text())
    assert header, f"{path} does not start with a comment"
    lines = re.sub(r"\\\n#", "", header.group())
    found = re.search(r"python -m tl\.cli (.+)", lines)
    assert found, f"{path} does not say its command"
    return found.group(1).split()


def test_there_are_configs() -> None:
    assert {"configs/multitask.yaml", "configs/overlays/quick.yaml"} <= {*RUNS, *OVERLAYS}
    used = {
        yaml.safe_load((ROOT / path).read_text())["model"]["init_args"]["strategy"]["class_path"]
        for path in STRATEGIES
    }
    # an overlay for each strategy
    named = {f"tl.transfer.{type(strategy).__name__}" for strategy in every_strategy()}
    variants = {f"tl.transfer.{name}" for name in ("BitFit", "NormTuning", "StochNorm")}
    assert used == named | variants


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The best checkpoint of a run that the reader has made, by name; made when first asked for."""
    folder = tmp_path_factory.mktemp("earlier")

    def best(name: str) -> Path:
        path = folder / name / "version_0" / "checkpoints" / "best.ckpt"
        if not path.exists():
            main(["fit", "--config", f"configs/{name}.yaml", *TINY, f"--log_dir={folder}"])
        return path

    return best


@pytest.mark.parametrize("path", [*RUNS, *OVERLAYS])
def test_a_config_runs_by_the_command_in_its_header(
    path: str, tmp_path: Path, earlier: Callable[[str], Path]
) -> None:
    given = command(path)
    assert path in given
    pattern = r"lightning_logs/(\w+)/version_0/checkpoints/best\.ckpt"
    given = [re.sub(pattern, lambda found: str(earlier(found.group(1))), word) for word in given]
    pictures = (PICTURES,) if path in RUNS else ()
    main([*given, *TINY, *pictures, *MORE.get(path, ()), f"--log_dir={tmp_path}"])
    [folder] = tmp_path.glob("*/version_0")
    assert (folder / "results.json").exists()
    checkpoints = list(folder.glob("checkpoints/*.ckpt"))
    assert checkpoints
    for checkpoint in checkpoints:
        assert torch.serialization.get_unsafe_globals_in_checkpoint(checkpoint) == []
        assert read_checkpoint(checkpoint)["tl"]["configuration"]["model"]


@pytest.mark.parametrize("path", STRATEGIES)
def test_a_strategy_composes_with_several_tasks(path: str, tmp_path: Path) -> None:
    words = " ".join(command(path)).replace("transfer_cifar100.yaml", "multitask.yaml").split()
    assert "configs/multitask.yaml" in words
    given = [word for word in words if "init_from" not in word]
    main([*given, *TINY, *MORE.get(path, ()), f"--log_dir={tmp_path}"])
    [folder] = tmp_path.glob("multitask/version_0")
    results = json.loads((folder / "results.json").read_text())
    assert {"transfer/bn_drift", "val/cifar10/acc", "val/cifar100/acc"} <= set(results["metrics"])


@pytest.mark.parametrize("path", RUNS)
def test_a_run_has_the_recipe(path: str) -> None:
    config = yaml.safe_load((ROOT / path).read_text())
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert model["backbone"]["class_path"] == "tl.backbones.ResNet18"
    assert model["scheduler"]["class_path"] == "tl.modules.WarmupCosine"
    assert data["offline"] == "generated"
    if "views" not in data.get("sources", {}):  # two views have a recipe of their own
        assert data["augment"] == {"padding": 4, "flip": True, "cutout": 0}
    assert config["trainer"]["precision"] is None  # chosen by the device
