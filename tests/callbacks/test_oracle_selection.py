from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

from tests.small import multitask_module, trainer
from tests.transfer.adaptation.domains import domains
from tl.callbacks import OracleSelection, RunCheckpoint
from tl.modules.direction import check_direction
from tl.transfer.adaptation import CORAL


class Told:
    """A run whose validations reach what a test says."""

    sanity_checking = False

    def __init__(self, mode: str | None) -> None:
        self.state = type("State", (), {"fn": "fit"})()
        self.callback_metrics: dict[str, torch.Tensor] = {}
        self.current_epoch = 0
        kept = RunCheckpoint(monitor="val/acc", mode="max") if mode else RunCheckpoint()
        self.callbacks = [kept]


@pytest.mark.parametrize(("monitored", "honest"), [(True, 0.3), (False, 0.5)])
def test_the_score_at_the_chosen_epoch_and_the_best_one(*, monitored: bool, honest: float) -> None:
    data = domains()
    net: Any = multitask_module(data, penalties=CORAL())
    run = Told("max" if monitored else None)
    net._trainer = type("Run", (), {"datamodule": data})()
    callback: Any = OracleSelection()
    for epoch, (source, target) in enumerate([(0.5, 0.2), (0.9, 0.3), (0.8, 0.6), (0.9, 0.5)]):
        run.current_epoch = epoch
        run.callback_metrics = {
            "val/acc": torch.tensor(source),
            "val/odd/oracle": torch.tensor(target),
        }
        callback.on_validation_end(run, net)
        state = callback.state_dict()
        callback = OracleSelection()  # as after a resume
        callback.load_state_dict(state)
    assert state["honest"]["odd"][0] == pytest.approx(honest)
    assert state["oracle"]["odd"] == [pytest.approx(0.6), 2]


def test_an_epoch_without_the_monitored_score_chooses_nothing() -> None:
    data = domains()
    net: Any = multitask_module(data, penalties=CORAL())
    run: Any = Told("max")
    net._trainer = type("Run", (), {"datamodule": data})()
    callback: Any = OracleSelection()
    run.callback_metrics = {"val/odd/oracle": torch.tensor(0.4)}
    callback.on_validation_end(run, net)
    assert callback.state_dict()["honest"] == {}
    assert callback.state_dict()["oracle"]["odd"] == [pytest.approx(0.4), 0]


def test_both_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = domains()
    net = multitask_module(data, penalties=CORAL())
    kept = RunCheckpoint(tmp_path, monitor="val/acc")
    run = trainer(
        tmp_path, max_epochs=2, enable_checkpointing=True, callbacks=[OracleSelection(), kept]
    )
    with caplog.at_level("INFO"):
        run.fit(net, data)
    found = run.callback_metrics
    assert found["val/odd/oracle_acc_at_chosen"] <= found["val/odd/oracle_acc_at_best"]
    [said] = re.findall(r"chosen by labelled sources \((\d)\), .* best \((\d)\)", caplog.text)
    assert {*said} <= {"1", "2"}  # of two epochs, as the table counts them


@pytest.mark.parametrize(
    "metric", ["val/odd/oracle", "val/odd/oracle_loss", "val/odd/oracle_acc_at_best"]
)
def test_it_is_never_monitored(metric: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="computed from labels that training withholds"):
        check_direction(metric, "max", "the checkpoint")
    with pytest.raises(ValueError, match="the checkpoint cannot monitor"):
        RunCheckpoint(monitor=metric, mode="max")
    data = domains()
    stop = EarlyStopping(metric, mode="max")
    with pytest.raises(ValueError, match="EarlyStopping cannot monitor"):
        trainer(tmp_path, max_epochs=1, callbacks=[stop]).fit(multitask_module(data), data)
