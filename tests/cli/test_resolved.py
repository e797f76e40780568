from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tl.cli.resolved import ResolvedConfiguration, class_defaults, flat

ROOT = Path(__file__).resolve().parents[2]
CONFIG = f"--config={ROOT}/configs/multitask.yaml"


def test_it_is_what_a_run_records_without_building_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = torch.get_rng_state()
    monitor = "--trainer.callbacks={class_path: EarlyStopping, init_args: {monitor: val/acc}}"
    resolved = ResolvedConfiguration(["fit", CONFIG, "--seed_everything=5", monitor])
    values = flat(resolved.found)
    assert values["trainer.precision"] is not None
    assert values["data.init_args.seed"] == 5
    assert values["trainer.callbacks.init_args.mode"] == "max"
    assert resolved.derived == {
        "trainer.precision": "this machine",
        "data.init_args.seed": "seed_everything",
        "trainer.callbacks.init_args.mode": "direction of its metric",
    }
    assert resolved.defaults["trainer.max_epochs"] is None
    assert resolved.variables == {}
    assert not [*tmp_path.iterdir()]
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    "options",
    [
        [
            "--data=tl.data.TensorDataModule",
            "--data.inputs=x.npy",
            "--data.targets=y.npy",
            "--data.tasks=[{class_path: tl.tasks.Regression, init_args: {name: r}}]",
        ],
        ["--data=tl.data.SyntheticScenesDataModule"],
        ["--data=tl.data.SyntheticTextDataModule"],
        ["--data=tl.data.GeneratedDataModule"],
        ["--data=tl.data.CifarFewShotDataModule"],
    ],
)
def test_split_and_order_follow_seed_everything(options: list[str]) -> None:
    model = ["--model=tl.modules.MultiTaskModule", "--model.backbone=tl.backbones.ResNet20"]
    given = ["fit", *options, *model, "--seed_everything=5"]
    assert flat(ResolvedConfiguration(given).found)["data.init_args.seed"] == 5
    given += ["--data.seed=3"]
    assert flat(ResolvedConfiguration(given).found)["data.init_args.seed"] == 3


def test_variables_of_the_environment_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JSONARGPARSE_DEFAULT_ENV", "true")
    monkeypatch.setenv("PL_FIT__TRAINER__MIN_EPOCHS", "2")
    resolved = ResolvedConfiguration(["fit", CONFIG])
    assert resolved.found["trainer"]["min_epochs"] == 2
    assert resolved.variables == {"trainer.min_epochs": "PL_FIT__TRAINER__MIN_EPOCHS"}


def test_defaults_of_classes_are_those_of_their_constructors() -> None:
    found = class_defaults(
        {
            "a": [{"class_path": "tl.data.CifarDataModule"}],
            "b": {"init_args": {"c": {"class_path": "no.such.Class"}}},
            "m": {"class_path": "tl.modules.MultiTaskModule"},
        }
    )
    assert found["a.0.init_args.name"] == "cifar10"
    assert found["m.init_args.label_smoothing"] == 0
    assert found["m.init_args.batch_norm"] == "joint"
    assert not any(key.startswith("b.") for key in found)
