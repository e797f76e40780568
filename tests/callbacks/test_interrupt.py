from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor, nn

from tl import GeneratedDataModule, MultiTaskDataModule, MultiTaskModule
from tl.callbacks.interrupt import SaveOnSignal, StoppedBySignal


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
    folder: Path, callbacks: list[Callback], *, workers: int = 0, accumulate: int = 1, **kwargs: Any
) -> MultiTaskModule:
    made = data(workers)
    torch.manual_seed(0)
    module = MultiTaskModule(
        Tiny(), made.tasks, optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)
    )
    trainer = Trainer(
        max_epochs=3,
        default_root_dir=folder,
        logger=False,
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
    checkpoint = Path(stopped.value.checkpoint)
    assert torch.load(checkpoint, weights_only=True)["global_step"] == step
    again = fit(tmp_path, [], ckpt_path=checkpoint, workers=workers, accumulate=accumulate)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_signals_are_given_back_after_a_whole_run(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    fit(tmp_path, [SaveOnSignal()])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_the_checkpoint_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    SaveOnSignal.tell(StoppedBySignal(signal.SIGTERM, "runs/interrupted.ckpt"))
    assert "SIGTERM" in (said := capsys.readouterr().err)
    assert "--ckpt_path runs/interrupted.ckpt" in said
    assert len(said.strip().splitlines()) == 1
