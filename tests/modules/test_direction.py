"""Which way a metric is better follows from its name, or is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.optim.lr_scheduler import ReduceLROnPlateau

from tests.small import module, tiny_data, trainer
from tl import TransferModule
from tl.backbones import ResNet20
from tl.callbacks import RunCheckpoint
from tl.cli.command import TlCLI
from tl.modules.direction import check_direction, direction_of, follow_metrics


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("val/acc", "max"),
        ("val/cifar10/acc", "max"),
        ("train/loss", "min"),
        ("val/cifar10/loss/dataloader_idx_1", "min"),
        ("val/ece", None),
        ("accuracy", None),
    ],
)
def test_the_name_tells(metric: str, direction: str | None) -> None:
    assert direction_of(metric) == direction


def test_checkpoints_follow_the_metric() -> None:
    assert RunCheckpoint(monitor="val/loss").mode == "min"
    assert RunCheckpoint(monitor="val/acc").mode == "max"
    assert RunCheckpoint(monitor="val/ece", mode="max").mode == "max"
    with pytest.raises(ValueError, match=r"`val/ece` improves; set `mode`"):
        RunCheckpoint(monitor="val/ece")
    with pytest.raises(ValueError, match=r"better when lower; set `mode: min`"):
        RunCheckpoint(monitor="val/loss", mode="max")
    with pytest.raises(ValueError, match="must be min or max, got 'up'"):
        check_direction("val/ece", "up", "x")


@pytest.mark.parametrize(
    "callback", [EarlyStopping("val/acc"), ModelCheckpoint(monitor="val/acc")], ids=["stop", "save"]
)
def test_callbacks_that_follow_it_the_wrong_way_are_refused(tmp_path: Path, callback: Any) -> None:
    data = tiny_data()
    with pytest.raises(ValueError, match=r"`val/acc` with mode='min', but it is better when high"):
        trainer(tmp_path, callbacks=[callback], enable_checkpointing=True).fit(module(data), data)


def plateau(data: Any, **options: Any) -> TransferModule:
    return TransferModule(
        ResNet20(),
        data.task,
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1),
        scheduler=lambda optimizer: ReduceLROnPlateau(optimizer, factor=0.5, **options),
    )


def test_a_plateau_schedule_looks_where_there_is_a_validation(tmp_path: Path) -> None:
    data = tiny_data()
    # nothing is better by this threshold: each look lowers the rate, after epochs 2 and 4
    built = plateau(data, patience=0, threshold=1.0)
    fit = trainer(tmp_path, max_epochs=5, check_val_every_n_epoch=2)
    fit.fit(built, data)
    assert fit.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**2)
    with pytest.raises(ValueError, match=r"ReduceLROnPlateau monitors `val/loss` with mode='max'"):
        trainer(tmp_path).fit(plateau(data, mode="max"), data)


def test_a_plateau_schedule_without_a_validation_per_epoch_is_refused(tmp_path: Path) -> None:
    data = tiny_data()
    options = {"check_val_every_n_epoch": None, "val_check_interval": 7}
    with pytest.raises(
        ValueError, match=r"`val/loss` is not computed in every epoch with `check_val_every"
    ):
        trainer(tmp_path, **options).fit(plateau(data), data)


def monitors(metric: str, **options: Any) -> dict[str, Any]:
    stop = {"class_path": "a.EarlyStopping", "init_args": {"monitor": metric, **options}}
    return {"fit": {"trainer": {"callbacks": [stop]}, "model": {"init_args": {"scheduler": stop}}}}


@pytest.mark.parametrize(("metric", "mode"), [("val/acc", "max"), ("val/cifar10/loss", "min")])
def test_a_mode_that_is_left_out_follows_the_metric(metric: str, mode: str) -> None:
    full = monitors(metric, mode="min")
    follow_metrics(full, monitors(metric))
    assert full == monitors(metric, mode=mode)


def test_a_mode_that_was_given_is_kept_and_one_for_an_unknown_metric_asked_for() -> None:
    full = monitors("val/acc", mode="min")
    follow_metrics(full, monitors("val/acc", mode="min"))  # the module refuses it
    assert full == monitors("val/acc", mode="min")
    with pytest.raises(ValueError, match=r"EarlyStopping cannot know which way `val/ece` improves"):
        follow_metrics(monitors("val/ece", mode="min"), monitors("val/ece"))


def test_the_command_line_lets_early_stopping_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "stop.yaml"
    config.write_text(
        "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.EarlyStopping, "
        "init_args: {monitor: val/acc}}]}"
    )
    kept: list[Any] = []

    def look(cli: TlCLI) -> None:
        kept.extend(cli.chosen.trainer.callbacks)
        raise KeyboardInterrupt  # before anything is built

    monkeypatch.setattr(TlCLI, "before_instantiate_classes", look)
    source = Path(__file__).resolve().parents[2] / "configs" / "source_cifar10.yaml"
    with pytest.raises(KeyboardInterrupt):
        TlCLI(["fit", f"--config={source}", f"--config={config}"])
    assert [callback.init_args.mode for callback in kept] == ["max"]
