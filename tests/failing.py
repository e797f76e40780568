"""A callback for tests: one of several processes fails."""

from __future__ import annotations

import os
import signal
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class Fail(Callback):
    """Fail in one process.

    Args:
        rank: Which.
        how: It raises, is killed, or computes a loss that is not finite.
        where: In the third step, in validation, or before the run starts.
    """

    def __init__(
        self,
        rank: int,
        how: Literal["raise", "kill", "nan"],
        where: Literal["setup", "train", "validate"] = "train",
    ) -> None:
        self.rank = rank
        self.how = how
        self.where = where

    def _fail(self, trainer: Trainer, where: str) -> None:
        if trainer.global_rank == self.rank and where == self.where:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("the disk is on fire")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Fail at the start."""
        self._fail(trainer, "setup")

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Fail in the third step."""
        if batch_idx != 2:
            return
        if self.how == "nan" and trainer.global_rank == self.rank:
            for images, _ in batch.values():
                images[0] = torch.nan
        elif self.how != "nan":
            self._fail(trainer, "train")

    def on_validation_batch_start(self, trainer: Trainer, *given: Any) -> None:
        """Fail in validation."""
        self._fail(trainer, "validate")
