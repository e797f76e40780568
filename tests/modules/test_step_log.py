from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger

from tests.small import module, tiny_data, trainer
from tl.callbacks import Throughput


class Sees(Callback):
    """What callbacks and the progress bar see after each step."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float], dict[str, float]]] = []

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        """Note what the step before has left."""
        seen = {name: float(value) for name, value in trainer.callback_metrics.items()}
        bar = {name: float(value) for name, value in trainer.progress_bar_metrics.items()}
        self.rows.append((trainer.global_step, seen, bar))


def test_a_step_s_values_reach_loggers_callbacks_and_bar_under_its_number(tmp_path: Path) -> None:
    data, sees = tiny_data(batch_size=10), Sees()  # 11 steps
    logger = CSVLogger(tmp_path, name="", version="")
    model = module(data)
    run = trainer(tmp_path, callbacks=[sees], logger=logger, log_every_n_steps=3, max_epochs=1)
    run.fit(model, data)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    steps = {int(row["step"]): row for row in rows if row.get("train/loss")}
    assert list(steps)[:3] == [2, 5, 8]  # after steps 3, 6 and 9, counted from 0 as Lightning does
    for step, seen, bar in sees.rows:
        if step in (3, 6, 9):
            assert abs(float(steps[step - 1]["train/loss"]) - seen["train/loss"]) < 1e-5
            assert bar["train/loss"] == seen["train/loss"]
            assert int(steps[step - 1]["epoch"]) == 0
    assert "train/loss" in run.logged_metrics
    assert torch.is_tensor(run.callback_metrics["train/loss"])


def test_with_accumulation_it_is_after_steps_that_values_are_logged(tmp_path: Path) -> None:
    data, speed = tiny_data(batch_size=10), Throughput(mfu=False)  # 11 batches: steps of 3, 3, 3, 2
    logger = CSVLogger(tmp_path, name="", version="")
    model = module(data)
    run = trainer(
        tmp_path,
        callbacks=[speed],
        logger=logger,
        log_every_n_steps=2,
        max_epochs=1,
        accumulate_grad_batches=3,
    )
    run.fit(model, data)
    assert run.global_step == 4
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    for name in ("train/loss", "perf/images_per_second"):
        assert [int(row["step"]) for row in rows if row.get(name)] == [1, 3]
