from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tests.runs import module, tiny_data, trainer
from tl.callbacks import RunCheckpoint


def state(folder: Path) -> dict[str, object]:
    best = folder / "best.ckpt"
    return {
        "monitor": "val/acc",
        "best_model_score": torch.tensor(0.9),
        "best_model_path": str(best),
        "current_score": torch.tensor(0.8),
        "dirpath": str(folder),
        "best_k_models": {str(best): torch.tensor(0.9)},
        "kth_best_model_path": str(best),
        "kth_value": torch.tensor(0.9),
        "last_model_path": "",
    }


def test_a_resumed_run_knows_the_best_of_the_earlier_folder(tmp_path: Path) -> None:
    before, after = tmp_path / "version_0", tmp_path / "version_1"
    before.mkdir()
    (before / "best.ckpt").touch()
    ours = RunCheckpoint(after, monitor="val/acc", mode="max")
    ours.load_state_dict(state(before))
    assert ours.best_model_score == pytest.approx(0.9)
    assert ours.dirpath == str(after)
    assert not ours.check_monitor_top_k(_trainer(), torch.tensor(0.85))
    assert ours.check_monitor_top_k(_trainer(), torch.tensor(0.95))


def test_a_best_file_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    ours = RunCheckpoint(tmp_path / "version_1", monitor="val/acc", mode="max")
    ours.load_state_dict(state(tmp_path / "version_0"))
    assert ours.best_model_path == ""
    assert ours.best_model_score is None
    assert ours.check_monitor_top_k(_trainer(), torch.tensor(0.1))


def test_the_last_state_is_saved_also_after_the_last_validation(tmp_path: Path) -> None:
    data = tiny_data()  # five steps per epoch
    last = RunCheckpoint(tmp_path, filename="last")
    run = trainer(
        tmp_path, enable_checkpointing=True, callbacks=[last], val_check_interval=2, max_epochs=1
    )
    run.fit(module(data), data)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == run.global_step == 5
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".ckpt"] == ["last.ckpt"]


class CutOff(Callback):
    """End a run in a step, before its last batch."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        last = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if last and trainer.global_step == self.step:
            raise ConnectionAbortedError


@pytest.mark.parametrize("batches", [1, 2])
def test_a_run_goes_on_again_and_again_from_checkpoints_by_step(
    tmp_path: Path, batches: int
) -> None:
    """Also from one that is due with the last of five steps, where the counters are in between."""

    def run_until(step: int, start: Path | None = None) -> Path:
        torch.manual_seed(0)
        data = tiny_data(batch_size=20 // batches)
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        last = RunCheckpoint(folder, filename="last", every_n_train_steps=1)
        run = trainer(
            folder,
            enable_checkpointing=True,
            callbacks=[last, CutOff(step)],
            max_epochs=3,
            accumulate_grad_batches=batches,
            limit_train_batches=5 * batches,
        )
        with suppress(ConnectionAbortedError):
            run.fit(module(data), data, ckpt_path=start)
        return next(folder.glob("last.ckpt"), start or folder)

    whole = torch.load(run_until(99), weights_only=True)
    start = None
    for step in (5, 5, 8, 8, 10, 13, 15):
        start = run_until(step, start)
        parts = torch.load(start, weights_only=True)
        assert parts["global_step"] == step
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, parts["state_dict"][name]), name


def _trainer() -> Trainer:
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
