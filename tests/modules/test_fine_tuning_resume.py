"""A run that stops and goes on equals one that does not, under every strategy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from tests.modules.staged_runs import EPOCHS, OPTIMIZERS, SCHEDULERS, STAGES, STEPS, built, fit
from tests.small import every_strategy, name_of
from tl.transfer import Strategy


def everything(ours: LightningModule, run: Trainer) -> dict[str, Any]:
    """Weights, statistics, and the optimiser's state and rates, flat by name."""
    found: dict[str, Any] = dict(ours.state_dict())
    optimizer = run.optimizers[0].state_dict()
    for number, state in optimizer["state"].items():
        found |= {f"{number}/{key}": value for key, value in state.items()}
    found |= {f"lr/{group['name']}": group["lr"] for group in optimizer["param_groups"]}
    return found


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    assert one.keys() == other.keys()
    return [
        key
        for key, value in one.items()
        if not (
            torch.equal(value, other[key]) if isinstance(value, Tensor) else value == other[key]
        )
    ]


@pytest.mark.parametrize("schedule", SCHEDULERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("strategy", every_strategy(), ids=name_of)
def test_a_run_in_parts_equals_a_run_in_one(
    strategy: Strategy, optimizer: str, schedule: str, tmp_path: Path
) -> None:
    settings = {"optimizer": OPTIMIZERS[optimizer], "scheduler": SCHEDULERS[schedule]}
    whole = built(strategy, **settings)
    saved: list[Callback] = [
        ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, save_on_train_epoch_end=True),
        ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1),
    ]
    run = fit(tmp_path, whole, callbacks=saved, enable_checkpointing=True)
    assert run.global_step == EPOCHS * STEPS
    expected = everything(whole, run)
    changes = strategy.changes(STAGES)
    # at the end of the epoch before each change and after three epochs; within the epoch after
    ends = [tmp_path / f"epoch={epoch - 1}.ckpt" for epoch in sorted({*changes, 3})]
    within = [tmp_path / f"step={epoch * STEPS + 1}.ckpt" for epoch in [*changes[:1], 3][:1]]
    for checkpoint in [*ends, *within]:
        torch.manual_seed(99)  # must not matter
        again = built(strategy, **settings)
        run = fit(tmp_path / "again", again, checkpoint)
        assert differences(expected, everything(again, run)) == [], checkpoint.name
