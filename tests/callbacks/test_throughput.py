from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from tests.runs import module, tiny_data, trainer
from tl.callbacks.throughput import Throughput, images_in


def test_images_of_a_batch_are_counted_once() -> None:
    part = (torch.zeros(3, 3, 2, 2), {"fine": torch.zeros(3), "coarse": torch.zeros(3)})
    assert images_in(part) == 3
    assert images_in({"a": part, "b": None, "c": part}) == 6
    with pytest.raises(TypeError, match="got str"):
        images_in("batch")


def test_the_first_step_and_validation_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 5.0, 100.0, 104.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    logged: list[float] = []
    trainer = cast(
        "Trainer",
        SimpleNamespace(
            world_size=2,
            log_every_n_steps=1,
            global_step=1,
            training=True,
            state=SimpleNamespace(fn="fit"),
        ),
    )
    module = cast(
        "LightningModule", SimpleNamespace(log=lambda _name, value, **_: logged.append(value))
    )
    batch: Any = (torch.zeros(10, 3, 2, 2), torch.zeros(10))
    counted = Throughput()
    counted.on_train_start(trainer, module)
    counted.on_train_epoch_start(trainer, module)
    for _ in range(3):  # the first step ends at 0 s and only starts the clock
        counted.on_train_batch_end(trainer, module, None, batch, 0)
    counted.on_validation_start(trainer, module)
    counted.on_validation_end(trainer, module)
    for _ in range(2):
        counted.on_train_batch_end(trainer, module, None, batch, 0)
    assert counted.images == 3 * 10 * 2
    assert counted.seconds == 2 + 3 + 4
    assert counted.images_per_second == pytest.approx(60 / 9)
    assert logged == [pytest.approx(20 / 2), pytest.approx(20 / 3), pytest.approx(20 / 4)]


def test_nothing_counted_is_no_number() -> None:
    assert Throughput().images_per_second is None


def test_validation_alone_is_counted(tmp_path: Path) -> None:
    counted = Throughput()
    data = tiny_data(eval_batch_size=4)
    trainer(tmp_path, callbacks=[counted]).validate(module(data), data, verbose=False)
    assert counted.images == 10 - 4  # the first batch starts the clock
