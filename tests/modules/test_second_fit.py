from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau

from tests.small import module, tiny_data, trainer
from tl.modules import WarmupCosine

momentum = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


class Rates(Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []
        self.begun: list[bool] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.seen.append(float(trainer.optimizers[0].param_groups[0]["lr"]))
        self.begun.append(bool(trainer.optimizers[0].state))


@pytest.mark.parametrize(
    "scheduler",
    [
        WarmupCosine,
        partial(ExponentialLR, gamma=0.5),
        partial(ReduceLROnPlateau, patience=0, threshold=10.0),
        None,
    ],
)
def test_a_trainer_whose_epochs_were_raised_continues(tmp_path: Path, scheduler: Any) -> None:
    data = tiny_data()
    whole, parts = Rates(), Rates()
    long = module(data, optimizer=momentum, scheduler=scheduler)
    trainer(tmp_path, max_epochs=4, callbacks=[whole]).fit(long, data)
    short = module(data, optimizer=momentum, scheduler=scheduler)
    run = trainer(tmp_path, max_epochs=2, callbacks=[parts])
    run.fit(short, data)
    first = len(parts.seen)
    run.fit_loop.max_epochs = 4
    run.fit(short, data)
    assert parts.seen[first:] == pytest.approx(whole.seen[first:])
    assert parts.begun[first]
    if scheduler is not WarmupCosine:  # whose first part was shorter
        state = short.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in long.state_dict().items())


def test_a_new_trainer_begins_at_its_first_step(tmp_path: Path) -> None:
    data, seen = tiny_data(), Rates()
    built: LightningModule = module(data, optimizer=momentum, scheduler=WarmupCosine)
    trainer(tmp_path).fit(built, data)
    trainer(tmp_path, callbacks=[seen]).fit(built, data)
    assert seen.seen[0] == pytest.approx(0.1)
    assert not seen.begun[0]
