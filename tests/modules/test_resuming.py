"""From whichever checkpoint a run resumes, it ends as one that was never stopped."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    EarlyStopping,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from PIL import Image
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from tests.modules.staged_runs import OPTIMIZERS
from tests.small import Tiny, module, tiny_data, trainer
from tl import FolderDataModule, TransferModule
from tl.callbacks import RunCheckpoint
from tl.modules import WarmupCosine
from tl.runs.folders import completed_epochs


class Events(Callback):
    """What a run does, in order."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.before = 0

    def state_dict(self) -> dict[str, Any]:
        return {"done": len(self.seen)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before = state_dict["done"]

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        logged = trainer.fit_loop.epoch_loop._batches_that_stepped
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.seen.append(("batch", trainer.current_epoch, batch_idx, logged, rate))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seen.append(("val", trainer.global_step, float(trainer.callback_metrics["val/loss"])))


class BeforeEachBatch(Callback):
    """Save where a signal would, also in an epoch that takes no steps."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        path = Path(trainer.default_root_dir) / f"before-{trainer.current_epoch}-{batch_idx}.ckpt"
        trainer.save_checkpoint(path)


def run(folder: Path, ckpt: Path | None = None, **settings: Any) -> tuple[Trainer, Events]:
    """A run of three epochs that keeps a checkpoint of every kind and time."""
    scheduler = settings.pop("scheduler", None)
    extra = [make() for make in settings.pop("extra", ())]
    keep: Callable[..., RunCheckpoint] = partial(
        RunCheckpoint, folder, save_top_k=-1, enable_version_counter=False
    )
    events = Events()
    callbacks = [
        *extra,
        events,
        keep(filename="val-{step}", monitor="val/loss"),
        keep(filename="epoch-{step}", save_on_train_epoch_end=True),
        ModelCheckpoint(folder, "batch-{step}", save_top_k=-1, every_n_train_steps=1),
    ]
    data = tiny_data(train_size=70, test_size=20, batch_size=20, val_size=0.1)
    ours = module(data, optimizer=OPTIMIZERS["sgd"], scheduler=scheduler)
    length = {"max_epochs": -1 if "max_steps" in settings else 3}
    settings = {**length, **settings}
    going = trainer(
        folder, num_sanity_val_steps=0, enable_checkpointing=True, callbacks=callbacks, **settings
    )
    going.fit(ours, data, ckpt_path=ckpt, weights_only=True)
    return going, events


def end_of(going: Trainer) -> dict[str, Any]:
    """All that a run leaves."""
    ours = going.lightning_module
    found = {f"weights.{k}": v.clone() for k, v in ours.state_dict().items()}
    for number, state in going.optimizers[0].state_dict()["state"].items():
        found |= {f"optimizer.{number}.{k}": v for k, v in state.items()}
    averages = any(isinstance(c, StochasticWeightAveraging) for c in going.callbacks)  # type: ignore[attr-defined]
    for config in [] if averages else going.lr_scheduler_configs:  # theirs ends before the run
        found |= {f"schedule.{k}": v for k, v in config.scheduler.state_dict().items()}
    return found | {"epoch": going.current_epoch, "step": going.global_step}


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        same = torch.equal(found[key], value) if torch.is_tensor(value) else found[key] == value
        assert same, f"{key}: {found[key]}, not {value}"


PLATEAU = partial(ReduceLROnPlateau, patience=0, factor=0.5, threshold=0.5)


def _plateau_by_step(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {
        "scheduler": ReduceLROnPlateau(optimizer, patience=1, factor=0.9, threshold=0.5),
        "interval": "step",
        "monitor": "val/loss",
        "strict": False,
    }


RUNS: dict[str, dict[str, Any]] = {
    "epochs": {"scheduler": WarmupCosine},
    "steps": {"scheduler": WarmupCosine, "max_steps": 8},
    "whole epochs in steps": {"scheduler": WarmupCosine, "max_steps": 9},
    "schedule by epochs": {"scheduler": partial(CosineAnnealingLR, T_max=3), "max_steps": 8},
    "plateau": {"scheduler": PLATEAU},
    "plateau in steps": {"scheduler": PLATEAU, "max_steps": 8},
    "plateau on training": {
        "scheduler": lambda optimizer: {
            "scheduler": PLATEAU(optimizer), "interval": "epoch", "monitor": "train/loss",
        }
    },
    "plateau by steps": {"scheduler": _plateau_by_step},
    "two validations an epoch": {"scheduler": PLATEAU, "val_check_interval": 2},
    "two validations in steps": {"val_check_interval": 2, "max_steps": 8},
    "every second epoch": {
        "scheduler": PLATEAU, "check_val_every_n_epoch": 2, "limit_train_batches": 2
    },
    "by batches of the run": {
        "check_val_every_n_epoch": None, "val_check_interval": 2, "max_steps": 8,
        "extra": [BeforeEachBatch],
    },
    "stops early": {
        "extra": [partial(EarlyStopping, "val/loss", patience=1, min_delta=10.0)]
    },
    "stops early at the epoch's end": {
        "extra": [
            partial(
                EarlyStopping, "val/loss", patience=1, min_delta=10.0,
                check_on_train_epoch_end=True,
            )
        ]
    },
    "accumulation": {"accumulate_grad_batches": 2, "val_check_interval": 1},
    "accumulation by epoch": {
        "extra": [partial(GradientAccumulationScheduler, {0: 1, 1: 2})]
    },
    "averaged weights": {
        "extra": [
            partial(StochasticWeightAveraging, swa_lrs=0.05, swa_epoch_start=2),
            BeforeEachBatch,
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_from_every_checkpoint_a_run_ends_the_same(name: str, tmp_path: Path) -> None:
    whole, events = run(tmp_path / "whole", **RUNS[name])
    wanted = end_of(whole)
    files = sorted((tmp_path / "whole").glob("*.ckpt"))
    assert len(files) > 5
    for number, file in enumerate(files):
        if torch.load(file, weights_only=True)["global_step"] == wanted["step"]:
            continue  # nothing is left to train
        going, seen = run(tmp_path / str(number), file, **RUNS[name])
        try:
            if not file.name.startswith("before-3"):  # that epoch begins anew: it moves nothing
                assert seen.seen == events.seen[seen.before :]
            assert_same(end_of(going), wanted)
        except AssertionError as error:
            raise AssertionError(f"from {file.name}: {error}") from error


LONGER: dict[str, list[dict[str, Any]]] = {
    "steps within an epoch": [{"max_steps": 4}, {"max_steps": 8}],
    "steps at an epoch's end": [{"max_steps": 6}, {"max_steps": 8}],
    "steps at a validation": [
        {"max_steps": 4, "val_check_interval": 1}, {"max_steps": 8, "val_check_interval": 1}
    ],
    "plateau": [{"max_epochs": 2, "scheduler": PLATEAU}, {"max_epochs": 3, "scheduler": PLATEAU}],
    "epochs after steps": [{"max_steps": 4}, {"max_epochs": 3}],
    "steps after epochs": [{"max_epochs": 2}, {"max_steps": 8}],
}  # fmt: skip


@pytest.mark.parametrize("name", LONGER)
def test_a_run_that_is_made_longer_ends_as_one_of_that_length(name: str, tmp_path: Path) -> None:
    short, long = LONGER[name]
    whole, _ = run(tmp_path / "whole", **long)
    ended, _ = run(tmp_path / "short", **short)
    files = [
        file
        for file in sorted((tmp_path / "short").glob("*.ckpt"))
        if torch.load(file, weights_only=True)["global_step"] == ended.global_step
    ]
    assert files
    for number, file in enumerate(files):
        going, _ = run(tmp_path / str(number), file, **long)
        assert_same(end_of(going), end_of(whole))


def test_an_epoch_that_was_stopped_within_is_not_a_completed_one(tmp_path: Path) -> None:
    run(tmp_path, max_steps=4)
    saved = torch.load(tmp_path / "epoch-step=4.ckpt", weights_only=True)
    assert completed_epochs(saved) == 1


class Halves(Callback):
    """Acts at the start of epochs, and nobody knows whether it may do so twice."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for group in trainer.optimizers[0].param_groups:
            group["lr"] /= 2


def test_a_callback_that_an_epoch_which_resumes_leaves_out_is_named(tmp_path: Path) -> None:
    run(tmp_path, extra=[Halves])
    with pytest.warns(UserWarning, match="Halves acts at the start of an epoch"):
        run(tmp_path / "again", tmp_path / "batch-step=4.ckpt", extra=[Halves])


def folder_run(root: Path, folder: Path, ckpt: Path | None = None) -> dict[str, Any]:
    """Two epochs on image folders, augmented, with a checkpoint at each."""
    data = FolderDataModule(root=str(root), size=32, val_size=0.2, batch_size=4)
    torch.manual_seed(0)
    ours = TransferModule(Tiny(), data.tasks[0], optimizer=OPTIMIZERS["sgd"])
    keep = RunCheckpoint(folder, "epoch-{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    going = trainer(folder, enable_checkpointing=True, callbacks=[keep], log_every_n_steps=3)
    going.fit(ours, data, ckpt_path=ckpt, weights_only=True)
    found = end_of(going)
    return {key.replace(data.data_name, "insects"): value for key, value in found.items()}


def test_the_name_of_the_data_folder_may_change_between_stops(tmp_path: Path) -> None:
    root = tmp_path / "insects"
    pixels = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            (root / split / name).mkdir(parents=True)
            for number in range(10):
                image = pixels.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(image).save(root / split / name / f"{number}.png")
    wanted = folder_run(root, tmp_path / "whole")
    moved = root.rename(tmp_path / "bugs")
    first = tmp_path / "whole" / "epoch-epoch=0.ckpt"
    assert_same(folder_run(moved, tmp_path / "moved", first), wanted)
