"""Callbacks for tests: what ends a run, or has it wait for its end."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class StopAfter(Callback):
    """Stop after the second epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask the trainer to stop."""
        trainer.should_stop = trainer.current_epoch >= 1


class WaitInTheThirdEpoch(Callback):
    """Wait after the second step of the third epoch, to be killed there."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Wait, for ever as far as a test is concerned."""
        if trainer.current_epoch == 2 and batch_idx == 2:
            time.sleep(600)
