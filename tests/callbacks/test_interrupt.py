from __future__ import annotations

import csv
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from tl import GeneratedDataModule, MultiTaskDataModule, MultiTaskModule
from tl.callbacks.interrupt import SaveOnSignal, StoppedBySignal, stop_on_signals
from tl.modules import WarmupCosine


class Tiny(nn.Module):
    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=4)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.conv(images).relu().mean((2, 3))
        return features


class SendSignal(Callback):
    def __init__(self, step: int, number: int) -> None:
        self.step = step
        self.number = number

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


def data(workers: int) -> MultiTaskDataModule:
    return MultiTaskDataModule(
        sources={
            "a": GeneratedDataModule(train_size=100),
            "b": GeneratedDataModule(classes=100, train_size=200, targets="coarse"),
        },
        batch_size=30,
        num_workers=workers,
    )


def fit(
    folder: Path,
    callbacks: list[Callback],
    *,
    workers: int = 0,
    accumulate: int = 1,
    scheduler: Any = None,
    logger: Any = False,
    **kwargs: Any,
) -> MultiTaskModule:
    made = data(workers)
    torch.manual_seed(0)
    module = MultiTaskModule(
        Tiny(),
        made.tasks,
        optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        scheduler=scheduler,
    )
    trainer = Trainer(
        max_epochs=3,
        default_root_dir=folder,
        logger=logger,
        log_every_n_steps=2,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        accumulate_grad_batches=accumulate,
        callbacks=callbacks,
    )
    trainer.fit(module, made, weights_only=True, **kwargs)
    return module


@pytest.mark.parametrize(
    ("number", "step", "workers", "accumulate"),
    [
        (signal.SIGINT, 4, 0, 1),
        (signal.SIGTERM, 4, 2, 1),
        (signal.SIGTERM, 3, 0, 1),  # the last step of an epoch: three steps each
        (signal.SIGINT, 2, 0, 2),
    ],
)
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, number: int, step: int, workers: int, accumulate: int
) -> None:
    before = signal.getsignal(number)
    whole = fit(tmp_path, [], accumulate=accumulate)
    with pytest.raises(StoppedBySignal) as stopped:
        fit(
            tmp_path,
            [SaveOnSignal(), SendSignal(step, number)],
            workers=workers,
            accumulate=accumulate,
        )
    assert stopped.value.number == number
    assert signal.getsignal(number) == before
    checkpoint = Path(stopped.value.checkpoint or "")
    assert torch.load(checkpoint, weights_only=True)["global_step"] == step
    again = fit(tmp_path, [], ckpt_path=checkpoint, workers=workers, accumulate=accumulate)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


@pytest.mark.parametrize(("workers", "step"), [(0, 4), (2, 4), (0, 5)])
def test_a_schedule_does_not_change_where_a_run_goes_on(
    tmp_path: Path, workers: int, step: int
) -> None:
    """Its length is found from a loader that is made before the progress is restored."""
    schedule = partial(WarmupCosine, warmup=0.3)
    logger = CSVLogger(tmp_path, "whole")
    whole = fit(tmp_path, [], scheduler=schedule, logger=logger)
    parts = [CSVLogger(tmp_path, name) for name in ("first", "second")]
    watching = [SaveOnSignal(), SendSignal(step, signal.SIGTERM)]
    with pytest.raises(StoppedBySignal) as stopped:
        fit(tmp_path, watching, workers=workers, scheduler=schedule, logger=parts[0])
    again = fit(
        tmp_path,
        [],
        workers=workers,
        scheduler=schedule,
        logger=parts[1],
        ckpt_path=stopped.value.checkpoint,
    )
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    # and the curves go on as if nothing had happened
    rows = [row for part in parts for row in logged(part)]
    assert rows == logged(logger)


def logged(logger: CSVLogger) -> list[tuple[str, str, str]]:
    logger.save()
    path = Path(logger.log_dir) / "metrics.csv"
    if not path.exists():
        return []
    with path.open() as file:
        return [(r["step"], r["train/loss"], r.get("val/loss", "")) for r in csv.DictReader(file)]


def test_a_shortened_epoch_is_resumed_at_its_end(tmp_path: Path) -> None:
    def run(epochs: int, **kwargs: Any) -> MultiTaskModule:
        made = data(0)
        torch.manual_seed(0)
        module = MultiTaskModule(Tiny(), made.tasks)
        trainer = Trainer(
            max_epochs=epochs,
            limit_train_batches=2,  # of three
            default_root_dir=tmp_path,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            accelerator="cpu",
            callbacks=[ModelCheckpoint(tmp_path, filename=f"last-{epochs}")],
        )
        trainer.fit(module, made, weights_only=True, **kwargs)
        assert trainer.global_step == 2 * epochs
        return module

    whole = run(3)
    run(1)
    again = run(3, ckpt_path=tmp_path / "last-1.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_second_signal_stops_at_once() -> None:
    watching = SaveOnSignal()
    watching._note(signal.SIGINT, None)
    with pytest.raises(StoppedBySignal, match="stopped by SIGINT, nothing was saved"):
        watching._note(signal.SIGINT, None)


def test_signals_stop_the_program_wherever_it_is() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, signal.SIG_DFL)
        stop_on_signals()
        for number in before:
            with pytest.raises(StoppedBySignal) as stopped:
                os.kill(os.getpid(), number)
            assert stopped.value.number == number
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_signals_are_given_back_after_a_whole_run(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    fit(tmp_path, [SaveOnSignal()])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_the_checkpoint_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    SaveOnSignal.tell(StoppedBySignal(signal.SIGTERM, "runs/interrupted.ckpt"))
    assert "SIGTERM" in (said := capsys.readouterr().err)
    assert "--ckpt_path runs/interrupted.ckpt" in said
    assert len(said.strip().splitlines()) == 1
