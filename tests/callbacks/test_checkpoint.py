from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pytest
import safetensors.torch
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from torch import Tensor, nn

from tests.processes import run_two_processes
from tests.small import module, tiny_data, trainer
from tl.callbacks import AtomicCheckpointIO, RunCheckpoint
from tl.checkpoints.safe_weights import checksum_of
from tl.transfer.lineage import lineage
from tl.transfer.source import load_heads
from tl.transfer.weights import load_weights


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


def test_a_best_file_that_is_gone_is_named_and_forgotten(tmp_path: Path) -> None:
    ours = RunCheckpoint(tmp_path / "version_1", monitor="val/acc", mode="max")
    with pytest.warns(UserWarning, match=r"best checkpoint so far \(val/acc 0.9\) is gone: .*best"):
        ours.load_state_dict(state(tmp_path / "version_0"))
    assert ours.best_model_path == ""
    assert ours.best_model_score is None
    assert ours.check_monitor_top_k(_trainer(), torch.tensor(0.1))


def test_in_a_folder_that_was_moved_the_best_is_found(tmp_path: Path) -> None:
    before, moved = tmp_path / "logs" / "version_0", tmp_path / "elsewhere" / "version_0"
    moved.mkdir(parents=True)
    (moved / "best.ckpt").touch()
    run = _trainer()
    run.ckpt_path = str(moved / "last.ckpt")
    ours = RunCheckpoint(tmp_path / "elsewhere" / "version_1", monitor="val/acc", mode="max")
    ours.on_load_checkpoint(run, LightningModule(), {})
    ours.load_state_dict(state(before))
    assert ours.best_model_path == str(moved / "best.ckpt")
    assert not ours.check_monitor_top_k(run, torch.tensor(0.85))


def test_weights_that_a_kill_kept_from_being_written_are_made_up_for(tmp_path: Path) -> None:
    def fit(epochs: int, resumes: bool) -> Path:
        best = RunCheckpoint(tmp_path, "best", "val/acc", enable_version_counter=False)
        run = trainer(
            tmp_path,
            max_epochs=epochs,
            enable_checkpointing=True,
            callbacks=[best],
            plugins=[AtomicCheckpointIO()],
        )
        data = tiny_data()
        ckpt = tmp_path / "best.ckpt" if resumes else None
        run.fit(module(data), data, ckpt_path=ckpt, weights_only=True)
        return Path(best.best_model_path).with_suffix(".safetensors")

    beside = fit(1, resumes=False)
    right = beside.read_bytes()
    beside.write_bytes(right[:-1])  # of an earlier, worse epoch
    fit(1, resumes=True)
    assert checksum_of(beside.read_bytes()) == checksum_of(right) is not None


class Plain(nn.Module):
    """A backbone without batch norm, whose average needs no further epoch."""

    num_features = 3

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean of each channel ``(N, 3)``."""
        return images.mean((2, 3))


def test_the_last_checkpoint_holds_the_averaged_weights(tmp_path: Path) -> None:
    average = StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=1)
    last = RunCheckpoint(tmp_path, "last", save_on_train_epoch_end=True)
    run = trainer(tmp_path, enable_checkpointing=True, callbacks=[average, last], max_epochs=3)
    data = tiny_data()
    ours = module(data, Plain)
    run.fit(ours, data)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in ours.state_dict().items())


class Looks(Callback):
    """Batches of the epoch and steps that a file holds after each batch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[tuple[int, int] | None] = []

    def on_train_batch_start(self, *given: Any) -> None:
        del given
        if not self.path.exists():
            self.seen.append(None)
            return
        saved = torch.load(self.path, weights_only=True)
        progress = saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
        self.seen.append((progress["processed"], saved["global_step"]))


def test_the_last_state_waits_for_the_step_that_a_validation_falls_into(tmp_path: Path) -> None:
    data = tiny_data(batch_size=10)  # eleven batches
    last, looks = RunCheckpoint(tmp_path, filename="last"), Looks(tmp_path / "last.ckpt")
    run = trainer(
        tmp_path,
        enable_checkpointing=True,
        callbacks=[last, looks],
        val_check_interval=3,
        accumulate_grad_batches=2,
        max_epochs=1,
    )
    run.fit(module(data), data)
    # validated after batches 3, 6 and 9; the steps of the first and the last end one later
    assert looks.seen[:4] == [None] * 4
    assert looks.seen[4:6] == [(4, 2)] * 2
    assert looks.seen[6:10] == [(6, 3)] * 4
    assert looks.seen[10] == (10, 5)


def test_a_trial_run_saves_nothing(tmp_path: Path) -> None:
    data = tiny_data()
    last = RunCheckpoint(tmp_path, filename="last")
    run = trainer(tmp_path, enable_checkpointing=True, callbacks=[last], fast_dev_run=True)
    run.fit(module(data), data)
    assert list(tmp_path.rglob("*.ckpt")) == []


def test_a_run_that_ends_before_its_first_validation_warns_of_no_metric(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    data = tiny_data()
    best = RunCheckpoint(tmp_path, filename="best", monitor="auto")
    run = trainer(tmp_path, enable_checkpointing=True, callbacks=[best], max_steps=2)
    run.fit(module(data), data)
    assert best.best_model_path == ""
    assert not [each for each in recwarn if "monitored key" in str(each.message)]


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
    """Also from one saved at the last of five steps, where the counters are between epochs."""

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


class Scores(Callback):
    """Logs a given score for each epoch."""

    def __init__(self, *scores: float) -> None:
        self.scores = scores

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pl_module.log("score", self.scores[trainer.current_epoch])


class Full(Callback):
    """No file can be written in these epochs, by the limit on a file's size."""

    def __init__(self, *epochs: int) -> None:
        self.epochs = epochs

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        trainer.strategy.checkpoint_io.wait()  # type: ignore[attr-defined]
        limit = 1000 if trainer.current_epoch in self.epochs else hard
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))


@contextmanager
def _limits_given_back() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _fit(
    folder: Path,
    callbacks: list[Callback],
    *,
    on_write_error: Literal["stop", "warn"] = "stop",
    **settings: Any,
) -> Trainer:
    data = tiny_data()
    run = trainer(
        folder,
        enable_checkpointing=True,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(on_write_error)],
        **settings,
    )
    with _limits_given_back():
        run.fit(module(data), data)
    return run


def _epoch_of(path: Path) -> int:
    epoch: int = torch.load(path, weights_only=True)["epoch"]
    return epoch


def test_a_failed_write_stops_the_run_and_leaves_the_earlier_file(tmp_path: Path) -> None:
    last = RunCheckpoint(tmp_path, filename="last")
    with pytest.raises(OSError, match="File too large") as failed:
        _fit(tmp_path, [Full(1, 2), last], max_epochs=3)
    assert failed.value.filename == str(tmp_path / "last.ckpt")
    assert _epoch_of(tmp_path / "last.ckpt") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_run_may_go_on_without_the_file_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("tl.callbacks.checkpoint_writes.rank_zero_info", said.append)
    best = RunCheckpoint(tmp_path, filename="best", monitor="score", mode="max")
    last = RunCheckpoint(tmp_path, filename="last")
    # the second epoch's is better and cannot be saved: the third's must not pass for worse
    callbacks = [Scores(0.1, 0.9, 0.5, 0.4), Full(1), best, last]
    _fit(tmp_path, callbacks, on_write_error="warn", max_epochs=4)
    assert len(said) == 2
    assert "best.ckpt: File too large" in said[0]
    assert "last.ckpt: File too large" in said[1]
    assert _epoch_of(tmp_path / "best.ckpt") == 2
    assert float(best.best_model_score or 0) == pytest.approx(0.5)
    assert _epoch_of(tmp_path / "last.ckpt") == 3
    assert best.unsaved is None
    assert last.unsaved is None


def test_a_run_that_ends_without_its_last_file_knows(tmp_path: Path) -> None:
    last = RunCheckpoint(tmp_path, filename="last")
    _fit(tmp_path, [Full(1), last], on_write_error="warn")
    assert isinstance(last.unsaved, OSError)
    assert _epoch_of(tmp_path / "last.ckpt") == 0


def test_weights_that_do_not_fit_beside_do_not_undo_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device", "best.safetensors")

    best = RunCheckpoint(tmp_path, filename="best", monitor="score", mode="max")
    monkeypatch.setattr("tl.checkpoints.atomic_io.to_safetensors", full)
    _fit(tmp_path, [Scores(0.5, 0.4), best], on_write_error="warn")
    assert float(best.best_model_score or 0) == pytest.approx(0.5), "the worse epoch came later"
    assert _epoch_of(tmp_path / "best.ckpt") == 0
    assert best.unsaved is not None


@pytest.mark.parametrize("full", [(), (2,)], ids=["room", "full"])
def test_the_earlier_file_goes_when_the_new_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: tuple[int, ...]
) -> None:
    replace, remove = Path.replace, AtomicCheckpointIO.remove_checkpoint
    done: list[str] = []

    def noted_replace(self: Path, target: Any) -> Path:
        done.append(f"+{Path(target).name}")
        return replace(self, target)

    def noted_remove(self: AtomicCheckpointIO, path: str | Path) -> None:
        done.append(f"-{Path(path).name}")
        remove(self, path)

    monkeypatch.setattr(Path, "replace", noted_replace)
    monkeypatch.setattr(AtomicCheckpointIO, "remove_checkpoint", noted_remove)
    best = RunCheckpoint(tmp_path, filename="{epoch}", monitor="score", mode="max", save_top_k=2)
    callbacks = [Scores(0.1, 0.2, 0.3), Full(*full), best]
    _fit(tmp_path, callbacks, on_write_error="warn", max_epochs=3)
    kept = ["epoch=0", "epoch=1"] if full else ["epoch=1", "epoch=2"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"{name}.{suffix}" for name in kept for suffix in ("ckpt", "safetensors")
    ]
    both = [
        f"{sign}epoch={n}.{s}"
        for n, sign in ((0, "+"), (1, "+"), (2, "+"), (0, "-"))
        for s in ("ckpt", "safetensors")
    ]
    assert done == (both[:4] if full else both)


def test_the_best_weights_lie_beside_and_come_in_as_a_source(tmp_path: Path) -> None:
    best = RunCheckpoint(tmp_path, filename="best", monitor="val/acc", mode="max")
    last = RunCheckpoint(tmp_path, filename="last")
    run = _fit(tmp_path, [best, last], max_epochs=1)
    assert {p.name for p in tmp_path.iterdir()} == {"best.ckpt", "best.safetensors", "last.ckpt"}
    trained = run.lightning_module.state_dict()
    plain = safetensors.torch.load_file(tmp_path / "best.safetensors")
    assert plain.keys() == trained.keys()
    assert all(torch.equal(plain[name], trained[name]) for name in trained)
    new = module(tiny_data())
    report = load_weights(new.backbone, tmp_path / "best.safetensors")
    whole = load_weights(module(tiny_data()).backbone, tmp_path / "best.ckpt")
    assert report.fraction == 1
    same = ("tasks", "data", "epoch", "global_step", "loaded", "parent")
    assert {k: report.record()[k] for k in same} == {k: whole.record()[k] for k in same}
    load_heads(new.heads, tmp_path / "best.safetensors")
    assert all(torch.equal(new.state_dict()[name], trained[name]) for name in trained)
    assert lineage(tmp_path / "best.safetensors").data == lineage(tmp_path / "best.ckpt").data


def test_weights_can_be_left_out(tmp_path: Path) -> None:
    data = tiny_data()
    files = AtomicCheckpointIO(safetensors=False)
    best = RunCheckpoint(tmp_path, filename="best", monitor="val/acc", mode="max")
    run = trainer(
        tmp_path, enable_checkpointing=True, callbacks=[best], plugins=[files], max_epochs=1
    )
    run.fit(module(data), data)
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]


SCRIPT = """
import torch
from pathlib import Path
from tests.callbacks.test_checkpoint import Full
from tests.small import module, tiny_data, trainer
from tl.callbacks import AtomicCheckpointIO, RunCheckpoint

for how in ("warn", "stop"):
    last = RunCheckpoint(Path(how), filename="last")
    run = trainer(
        Path("."), devices=2, strategy="ddp", max_epochs=3, enable_checkpointing=True,
        plugins=[AtomicCheckpointIO(how)], callbacks=[Full(1), last],
    )
    data = tiny_data()
    try:
        run.fit(module(data), data)
        said = "trained"
    except OSError as error:
        said = error.strerror
    Path(f"{how}{run.global_rank}.txt").write_text(said)
torch.distributed.destroy_process_group()
"""


def test_processes_stop_or_go_on_together(tmp_path: Path) -> None:
    """Only the first one writes; the other must not wait for it."""
    (tmp_path / "run.py").write_text(SCRIPT)
    run_two_processes(["run.py"], tmp_path)
    for how, said, epoch in (("warn", "trained", 2), ("stop", "File too large", 0)):
        assert [(tmp_path / f"{how}{rank}.txt").read_text() for rank in (0, 1)] == [said, said]
        assert _epoch_of(tmp_path / how / "last.ckpt") == epoch


def _trainer() -> Trainer:
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
