from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger

from tests.callbacks.test_checkpoint import Scores
from tests.checkpoints.test_background import Gate
from tests.small import module, tiny_data, trainer
from tl.callbacks import AtomicCheckpointIO, RunCheckpoint, SaveOnSignal
from tl.checkpoints.safe_weights import checksum_of
from tl.signals import StoppedBySignal


class At(Callback):
    """Calls a function before the first batch of an epoch."""

    def __init__(self, epoch: int, act: Callable[[], None]) -> None:
        self.epoch, self.act = epoch, act

    def on_train_batch_start(self, trainer: Trainer, *given: Any) -> None:
        if trainer.current_epoch == self.epoch and given[-1] == 0:
            self.act()


def _fit(
    folder: Path, *callbacks: Callback, files: AtomicCheckpointIO | None = None, **more: Any
) -> Trainer:
    data, plugins = tiny_data(), [files or AtomicCheckpointIO()]
    given = {"max_epochs": 2, "limit_train_batches": 2, **more}
    run = trainer(
        folder, enable_checkpointing=True, callbacks=[*callbacks], plugins=plugins, **given
    )
    run.fit(module(data), data)
    return run


def _step_of(path: Path) -> int:
    step: int = torch.load(path, weights_only=True)["global_step"]
    return step


def test_files_are_those_of_a_run_that_waits(tmp_path: Path) -> None:
    found: list[dict[str, Any]] = []
    for background in (False, True):
        folder = tmp_path / "run"  # files hold its name
        best = RunCheckpoint(folder, filename="{epoch}", monitor="score", mode="max")
        last = RunCheckpoint(folder, filename="last")
        files = AtomicCheckpointIO(background=background)
        _fit(tmp_path, Scores(0.1, 0.3, 0.2), best, last, files=files, max_epochs=3)
        content: dict[str, Any] = {path.name: path.read_bytes() for path in folder.iterdir()}
        # the order of metadata in its header differs from file to file
        content["epoch=1.safetensors"] = checksum_of(content["epoch=1.safetensors"])
        found.append(content)
        folder.rename(tmp_path / f"{background}")
    assert found[0].keys() == {"epoch=1.ckpt", "epoch=1.safetensors", "last.ckpt"}
    assert found[0] == found[1]


def test_training_continues_while_a_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, seen = Gate(monkeypatch), list[bool]()

    def look() -> None:
        seen.append((tmp_path / "last.ckpt").exists())
        gate.opened.set()

    last = RunCheckpoint(tmp_path, filename="last")
    _fit(tmp_path, At(1, look), last)
    assert seen == [False]
    assert _step_of(tmp_path / "last.ckpt") == 4
    assert last.pending is None


def test_the_earlier_file_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def names() -> None:
        seen.append(sorted(path.name for path in tmp_path.glob("epoch*.ckpt")))

    def close() -> None:
        files.wait()
        gates.append(Gate(monkeypatch))

    def look() -> None:
        names()
        gates[0].opened.set()

    gates: list[Gate] = []
    files = AtomicCheckpointIO()
    last = RunCheckpoint(tmp_path, filename="{epoch}")
    _fit(tmp_path, At(1, close), At(2, look), last, files=files, max_epochs=3)
    names()
    assert seen == [["epoch=0.ckpt"], ["epoch=2.ckpt"]]


def test_a_signal_waits_for_the_file_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, done = Path.replace, list[str]()

    def slow(self: Path, target: Any) -> Path:
        time.sleep(0.2)
        done.append(Path(target).name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", slow)
    stop = SaveOnSignal()
    last = RunCheckpoint(tmp_path, filename="last")
    with pytest.raises(StoppedBySignal):
        _fit(tmp_path, At(1, lambda: setattr(stop, "_received", 15)), stop, last)
    assert done == ["last.ckpt", "interrupted.ckpt"]
    assert _step_of(tmp_path / "interrupted.ckpt") == 2


def test_an_exception_waits_for_the_file_and_prevails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)

    def fail() -> None:
        gate.opened.set()
        raise ZeroDivisionError

    last = RunCheckpoint(tmp_path, filename="last")
    with pytest.raises(ZeroDivisionError):
        _fit(tmp_path, At(1, fail), last)
    assert _step_of(tmp_path / "last.ckpt") == 2
    assert last.pending is None


def test_a_failure_stops_training_at_a_step_soon_after(tmp_path: Path) -> None:
    """Not at the next checkpoint, which may be hours away."""
    (tmp_path / "a").touch()  # in the place of the folder
    files = AtomicCheckpointIO()
    last = RunCheckpoint(filename="last")
    last.dirpath = str(tmp_path / "a" / "b")
    with pytest.raises(OSError, match="Not a directory") as failed:
        _fit(tmp_path, At(1, files.wait), last, files=files, max_epochs=9)
    assert failed.value.filename == str(tmp_path / "a" / "b" / "last.ckpt")


def test_what_is_not_of_the_disk_is_raised_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ArithmeticError

    monkeypatch.setattr(AtomicCheckpointIO, "write", broken)
    with pytest.raises(ArithmeticError):
        _fit(tmp_path, checkpoint := RunCheckpoint(tmp_path, filename="last"))
    assert checkpoint.best_model_path == ""  # nothing was written


def test_loggers_hear_of_a_file_that_is_there(tmp_path: Path) -> None:
    heard: list[bool] = []

    class Logger(CSVLogger):
        def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
            heard.append(Path(checkpoint_callback.best_model_path).exists())

    last = RunCheckpoint(tmp_path, filename="last")
    _fit(tmp_path, last, logger=Logger(str(tmp_path)))
    assert heard == [True, True]


def test_two_callbacks_do_not_write_one_file(tmp_path: Path) -> None:
    one = RunCheckpoint(tmp_path, filename="same")
    two = RunCheckpoint(tmp_path, filename="same", every_n_epochs=1, monitor="score", mode="max")
    _fit(tmp_path, Scores(0.1), one, two, max_epochs=1)
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["same-v1.ckpt", "same.ckpt"]
