from __future__ import annotations

import csv
import os
import signal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from tl import GeneratedDataModule, MultiTaskDataModule, MultiTaskModule
from tl.callbacks.interrupt import SaveOnSignal
from tl.checkpoints.atomic_io import AtomicCheckpointIO
from tl.modules import WarmupCosine
from tl.signals import SIGNALS, StopAtOnce, StoppedBySignal, stop_on_signals


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
    plugins: Any = None,
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
        plugins=plugins,
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
        (signal.SIGUSR1, 5, 0, 1),
        (signal.SIGHUP, 4, 0, 1),
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
    """Lightning asks a loader for its length before the progress is restored."""
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


def test_signals_are_given_back_after_a_whole_run(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    fit(tmp_path, [SaveOnSignal()])
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize(("sanity", "at_once"), [(True, True), (False, False)])
def test_processes_stop_at_once_in_the_check_before_training(sanity: bool, at_once: bool) -> None:
    """Lightning's handler would wait in a collective for processes that are in another."""
    state = SimpleNamespace(fn=TrainerFn.FITTING)
    run: Any = SimpleNamespace(state=state, sanity_checking=sanity, world_size=2)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    watching = SaveOnSignal()
    try:
        watching.on_validation_start(run, LightningModule())
        assert isinstance(signal.getsignal(signal.SIGTERM), StopAtOnce) is at_once
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not watching.begun


class Ended(Callback):
    """Send a signal when nothing is left to stop, and note that the rest was done."""

    done = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        self.done = True


def test_a_signal_after_the_last_step_lets_the_run_end(tmp_path: Path) -> None:
    ended = Ended()
    fit(tmp_path, [SaveOnSignal(), ended])
    assert ended.done


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As SIGHUP under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop_on_signals()
        fit(tmp_path, [SaveOnSignal(), SendSignal(4, signal.SIGHUP)])
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("requeues", [True, False])
def test_the_signal_of_slurms_requeueing_is_lightnings(
    requeues: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = SLURMEnvironment(auto_requeue=requeues, requeue_signal=signal.SIGUSR1)
    monkeypatch.setattr(
        "lightning.pytorch.trainer.connectors.accelerator_connector._AcceleratorConnector"
        "._choose_and_init_cluster_environment",
        lambda _: environment,
    )
    saved: list[object] = []
    monkeypatch.setattr(
        "lightning.pytorch.trainer.connectors.signal_connector._SignalConnector"
        "._slurm_sigusr_handler_fn",
        lambda *given: saved.append(given),
    )
    before = [signal.getsignal(number) for number in SIGNALS]
    stop_on_signals()
    try:
        if requeues:
            fit(tmp_path, [SaveOnSignal(), SendSignal(4, signal.SIGUSR1)])
        else:
            with pytest.raises(StoppedBySignal, match="SIGUSR1"):
                fit(tmp_path, [SaveOnSignal(), SendSignal(4, signal.SIGUSR1)])
        assert len(saved) == requeues
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


def test_workers_do_not_answer_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """They inherit the handlers, and Ctrl-C reaches every process of a terminal."""
    watching, stop = SaveOnSignal(), StopAtOnce()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    watching._note(signal.SIGINT, None)
    watching._note(signal.SIGINT, None)
    stop(signal.SIGINT, None)
    assert not watching._received


def test_the_checkpoint_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    SaveOnSignal.tell(StoppedBySignal(signal.SIGTERM, "runs/interrupted.ckpt"))
    assert "SIGTERM" in (said := capsys.readouterr().err)
    assert "--ckpt_path runs/interrupted.ckpt" in said
    assert "  " not in said
    assert len(said.strip().splitlines()) == 1


def test_a_checkpoint_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*interrupted.ckpt"):
        fit(
            tmp_path,
            [SaveOnSignal(), SendSignal(2, signal.SIGTERM)],
            plugins=[AtomicCheckpointIO()],
        )
    assert not list(tmp_path.rglob("interrupted.ckpt"))
