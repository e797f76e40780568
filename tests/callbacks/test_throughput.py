from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from tests.small import module, tiny_data, trainer
from tl import TransferModule
from tl.callbacks.throughput import Throughput, holds_texts, images_in


def test_images_of_a_batch_are_counted_once() -> None:
    part = (torch.zeros(3, 3, 2, 2), {"fine": torch.zeros(3), "coarse": torch.zeros(3)})
    assert images_in(part) == 3
    assert images_in({"a": part, "b": None, "c": part}) == 6
    with pytest.raises(TypeError, match="got str"):
        images_in("batch")


def test_texts_are_told_from_images() -> None:
    tokens = {"input_ids": torch.zeros(3, 4), "attention_mask": torch.ones(3, 4)}
    part = (tokens, torch.zeros(3))
    assert holds_texts(part)
    assert holds_texts({"text": part, "masked": part})
    assert not holds_texts((torch.zeros(3, 3, 2, 2), torch.zeros(3)))
    assert not holds_texts(({"left": torch.zeros(3, 2)}, torch.zeros(3)))


def test_the_first_step_and_validation_take_no_time() -> None:
    times = iter([0.0, 0.5, 2.0, 4.0, 5.0, 100.0, 103.0, 104.0])
    logged: list[dict[str, float]] = []
    trainer = cast(
        "Trainer",
        SimpleNamespace(
            world_size=2,
            log_every_n_steps=1,
            global_step=1,
            training=True,
            state=SimpleNamespace(fn="fit"),
            progress_bar_metrics={},
            fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(_should_accumulate=lambda: False)),
        ),
    )
    module = cast(
        "LightningModule", SimpleNamespace(log_dict=lambda values, **_: logged.append(values))
    )
    batch: Any = (torch.zeros(10, 3, 2, 2), torch.zeros(10))
    counted = Throughput()
    counted.clock.now = lambda: next(times)
    counted.on_train_start(trainer, module)
    counted.on_train_epoch_start(trainer, module)
    for _ in range(3):  # the first step ends at 0 s and only starts the clock
        counted.on_train_batch_start(trainer, module, batch, 0)
        counted.on_train_batch_end(trainer, module, None, batch, 0)
    counted.on_validation_start(trainer, module)
    counted.on_validation_end(trainer, module)
    for _ in range(2):
        counted.on_train_batch_start(trainer, module, batch, 0)
        counted.on_train_batch_end(trainer, module, None, batch, 0)
    assert counted.images == 3 * 10 * 2
    assert counted.seconds == 2 + 3 + 4
    assert counted.data_seconds == 0.5 + 2 + 3
    assert counted.images_per_second == pytest.approx(60 / 9)
    assert counted.data_share == pytest.approx(5.5 / 9)
    speeds = [values["perf/images_per_second"] for values in logged]
    assert speeds == [pytest.approx(20 / 2), pytest.approx(20 / 3), pytest.approx(20 / 4)]
    shares = [values["perf/data_share"] for values in logged]
    assert shares == [pytest.approx(0.5 / 2), pytest.approx(2 / 3), pytest.approx(3 / 4)]
    assert all(values["perf/peak_memory_mb"] > 10 for values in logged)


def test_utilisation_is_arithmetic_done_over_arithmetic_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tl.callbacks.throughput.peak_of", lambda *_: 1e9)
    monkeypatch.setattr("tl.callbacks.throughput.flops_per_image", lambda *_: 5e4)
    counted, data = Throughput(), tiny_data()
    run = trainer(tmp_path, callbacks=[counted], log_every_n_steps=2)
    run.fit(module(data), data)
    assert counted.images_per_second is not None
    assert counted.mfu == pytest.approx(counted.images_per_second * 5e4 / 1e9)
    assert {"perf/mfu", "perf/data_share", "perf/peak_memory_mb"} <= set(run.callback_metrics)
    assert set(run.progress_bar_metrics) >= {"img/s", "mfu", "data", "MB", "train/loss"}
    without = Throughput(mfu=False)
    trainer(tmp_path, callbacks=[without]).fit(module(data), data)
    assert without.mfu is None
    assert without.images_per_second is not None


class Reads(nn.Module):
    """A backbone that does not run on the meta device."""

    num_features = 3

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, images: Tensor) -> Tensor:
        """Return features ``(N, 3)``."""
        means = images.mean((2, 3))
        return means * self.scale if float(means.sum()) > 0 else -means * self.scale


def test_a_backbone_that_needs_values_trains_without_the_measure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counted, data = Throughput(), tiny_data()
    model = TransferModule(Reads(), data.tasks[0])
    with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
        trainer(tmp_path, callbacks=[counted]).fit(model, data)
    assert "perf/mfu is not measured: Reads does not run on the meta device" in caplog.text
    assert counted.mfu is None
    assert counted.images_per_second is not None


def test_a_mistake_in_a_backbone_is_raised_by_its_step(tmp_path: Path) -> None:
    class Typo(Reads):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).maen()  # type: ignore[attr-defined, no-any-return]

    data = tiny_data()
    with pytest.raises(AttributeError, match="maen"):
        trainer(tmp_path, callbacks=[Throughput()]).fit(TransferModule(Typo(), data.tasks[0]), data)


def test_nothing_counted_is_no_number() -> None:
    assert Throughput().images_per_second is None


def test_validation_alone_is_counted(tmp_path: Path) -> None:
    counted = Throughput()
    data = tiny_data(eval_batch_size=4)
    trainer(tmp_path, callbacks=[counted]).validate(module(data), data, verbose=False)
    assert counted.images == 10 - 4  # the first batch starts the clock
