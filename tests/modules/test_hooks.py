"""What a Trainer calls of a module: steps, hooks and checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from tests.small import Tiny, module, tiny_data, trainer
from tl import Classification, TransferModule
from tl.data import DataError


def test_learning_rates_are_logged_by_group(tmp_path: Path) -> None:
    """With a schedule and without one, under the same names."""
    data = tiny_data()
    run = trainer(tmp_path, logger=CSVLogger(tmp_path), callbacks=[LearningRateMonitor("step")])
    run.fit(module(data), data)
    logged = {name for name in run.callback_metrics if name.startswith("lr/")}
    assert logged == {"lr/backbone", "lr/backbone_no_decay", "lr/head", "lr/head_no_decay"}
    assert run.callback_metrics["lr/head"] == pytest.approx(0.1)


def test_the_optimizer_s_kernel_is_that_of_the_device_after_a_resume(tmp_path: Path) -> None:
    data = tiny_data()
    first = trainer(tmp_path, max_epochs=1)
    first.fit(module(data), data)
    path = tmp_path / "run.ckpt"
    first.save_checkpoint(path)
    content = torch.load(path, weights_only=True)
    for group in content["optimizer_states"][0]["param_groups"]:
        group["fused"] = True  # as on a GPU
    torch.save(content, path)
    second = trainer(tmp_path, max_epochs=2)
    second.fit(module(data), data, ckpt_path=str(path))
    assert not any(group["fused"] for group in second.optimizers[0].param_groups)


class OwnOptimizer(TransferModule):
    """A module as the tutorials write it: its rate is an attribute."""

    def __init__(self) -> None:
        super().__init__(Tiny(), Classification("generated10", 10))
        self.lr = 0.01

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr or 0.0)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)]


class Starts(Callback):
    """Notes what a run starts with; sets the learning rate before it, as a search does."""

    def __init__(self, lr: float | None = None) -> None:
        self.lr = lr
        self.found: list[tuple[int, float, int]] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.lr is not None:
            pl_module.lr = self.lr  # type: ignore[assignment]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        optimizer, [config] = trainer.optimizers[0], trainer.lr_scheduler_configs
        rate: float = optimizer.param_groups[0]["lr"]
        self.found.append((len(optimizer.state), rate, config.scheduler.last_epoch))


def test_an_optimizer_that_a_subclass_builds_resumes(tmp_path: Path) -> None:
    data = tiny_data()
    first = trainer(tmp_path, max_epochs=1)
    first.fit(OwnOptimizer(), data)
    first.save_checkpoint(tmp_path / "run.ckpt")
    starts = Starts()
    trainer(tmp_path, max_epochs=2, callbacks=[starts]).fit(
        OwnOptimizer(), data, ckpt_path=tmp_path / "run.ckpt"
    )
    tensors, rate, epoch = starts.found[0]
    assert (tensors, epoch) == (6, 1)  # weights and biases of conv, norm and head
    assert rate == pytest.approx(0.001)


@pytest.mark.parametrize("kind", [OwnOptimizer, None])
def test_a_learning_rate_that_is_found_at_the_start_is_used(kind: Any, tmp_path: Path) -> None:
    data, starts = tiny_data(), Starts(0.5)
    ours = module(data) if kind is None else kind()
    trainer(tmp_path, max_epochs=1, limit_train_batches=1, callbacks=[starts]).fit(ours, data)
    assert starts.found[0][1] == 0.5


def test_a_run_that_has_diverged_stops(tmp_path: Path) -> None:
    data = tiny_data()
    ours = module(data, optimizer=lambda p: torch.optim.SGD(p, lr=1e30))
    with pytest.raises(ValueError, match=r"The loss of task 'generated10' is not finite at step 1"):
        trainer(tmp_path).fit(ours, data)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_images_have_the_type_of_the_weights(tmp_path: Path, precision: str) -> None:
    data = tiny_data()
    run = trainer(tmp_path, precision=precision, max_epochs=1)
    run.fit(module(data), data)
    assert run.callback_metrics["val/loss"].isfinite()


def test_labels_are_checked_against_the_head(tmp_path: Path) -> None:
    """Data modules of others are not asked what they hold."""
    batch = (torch.zeros(4, 3, 32, 32), torch.tensor([0, 1, 2, 3]))
    ours = TransferModule(Tiny(), Classification("a", 3))
    with pytest.raises(ValueError, match="'a' has a head of 3 classes, and sample 3 of the batch"):
        trainer(tmp_path).fit(ours, DataLoader([batch], batch_size=None))  # type: ignore[arg-type]


def test_validation_without_images_is_an_error(tmp_path: Path) -> None:
    data = tiny_data(val_size=0.0)
    with pytest.raises(DataError, match="no validation images: `val_size` is 0"):
        trainer(tmp_path).validate(module(data), data, verbose=False)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Compile as asked, but only trace: code would take a C++ compiler and a minute."""
    modes: list[object] = []
    original = torch.compile

    def compiled(model: Any, *, mode: object = None, **settings: Any) -> Any:
        modes.append(mode)
        return original(model, backend="eager", **settings)

    monkeypatch.setattr(torch, "compile", compiled)
    return modes


@pytest.mark.parametrize(("asked", "mode"), [(True, None), ("reduce-overhead", "reduce-overhead")])
def test_a_compiled_run_is_a_run_whose_checkpoint_starts_any_other(
    asked: Any, mode: str | None, tmp_path: Path, traced: list[object]
) -> None:
    torch._dynamo.reset()
    found = []
    for compile_ in (asked, False):
        data = tiny_data()
        torch.manual_seed(0)
        ours = TransferModule(Tiny(), data.tasks[0], compile=compile_)
        run = trainer(tmp_path, max_epochs=1)
        run.fit(ours, data)
        run.validate(ours, data, verbose=False)
        found.append(ours)
        run.save_checkpoint(tmp_path / f"{compile_}.ckpt")
    assert traced == [mode]  # once, and not for the run that does not ask for it
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    states = [one.state_dict() for one in found]
    assert list(states[0]) == list(states[1])  # no `_orig_mod`
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name])
    data = tiny_data()
    later = TransferModule(
        Tiny(), data.tasks[0], init_from=str(tmp_path / f"{asked}.ckpt"), compile=asked
    )
    trainer(tmp_path, max_epochs=1, limit_train_batches=1).fit(later, data)
    resumed = TransferModule(Tiny(), data.tasks[0], compile=asked)
    trainer(tmp_path, max_epochs=2).fit(resumed, data, ckpt_path=tmp_path / "False.ckpt")
