"""Runs of a strategy on a tiny network of three stages: 5 epochs of 3 steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from tests.small import Staged, module, tiny_data, trainer, two_sources
from tl import TransferModule
from tl.modules import WarmupCosine
from tl.transfer import Strategy

EPOCHS, STEPS = 5, 3
STAGES = ["stem", "layer1", "layer2", "head"]
OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "sgd": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "adamw": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
}
SCHEDULERS: dict[str, Callable[..., Any]] = {
    "cosine": partial(WarmupCosine, warmup=0.2),
    "one_cycle": partial(OneCycleLR, max_lr=0.1),
}


def data_of(several: bool, world: int = 1) -> Any:
    """Three steps an epoch, on so many processes."""
    if several:
        return two_sources(batch_size=30 // world)
    return tiny_data(train_size=70, test_size=20, batch_size=20 // world)


def built(strategy: Strategy | None, **settings: Any) -> TransferModule:
    """A module for one source."""
    settings = {"optimizer": OPTIMIZERS["sgd"], **settings}
    return module(data_of(several=False), Staged, strategy=strategy, **settings)


def fit(folder: Path, ours: LightningModule, ckpt: Path | None = None, **settings: Any) -> Trainer:
    """Train on fresh data."""
    run = trainer(folder, **{"max_epochs": EPOCHS, **settings})
    data = data_of(not isinstance(ours, TransferModule), run.world_size)
    run.fit(ours, data, ckpt_path=ckpt, weights_only=True)
    return run


class Watch(Callback):
    """Compare what a strategy freezes with what it was at the epoch's start, bit for bit."""

    def __init__(self) -> None:
        self.frozen_epochs = 0
        self.violations: list[str] = []
        self.thawed: set[str] = set()

    @staticmethod
    def tensors(ours: Any) -> dict[str, dict[str, Tensor]]:
        return {
            stage: {
                f"{number}.{name}": tensor.detach().clone()
                for number, part in enumerate(parts)
                for name, tensor in part.state_dict().items()
            }
            for stage, parts in ours.stages().items()
        }

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = self.tensors(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        after = self.tensors(pl_module)
        trainable = pl_module.strategy.trainable(trainer.current_epoch, list(after))
        for stage, tensors in after.items():
            moved = [k for k, v in tensors.items() if not torch.equal(v, self.before[stage][k])]
            frozen = stage not in trainable
            self.frozen_epochs += frozen
            if not frozen:
                self.thawed.add(stage)
            if len(moved) != (0 if frozen else len(tensors)):
                what = "moved while frozen" if frozen else "alone moved"
                self.violations.append(f"{stage} in epoch {trainer.current_epoch}: {moved} {what}")
