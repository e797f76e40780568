"""Callbacks for tests: what ends a run, or has it wait for its end."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class StopAfter(Callback):
    """Stop after the second epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask the trainer to stop."""
        trainer.should_stop = trainer.current_epoch >= 1


class SignalBeforeTheFirstStep(Callback):
    """Send SIGTERM when training has begun and no step is done, as while workers start."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send it."""
        if trainer.global_step == 0:
            os.kill(os.getpid(), signal.SIGTERM)


class WaitInTheThirdEpoch(Callback):
    """Wait after the second step of the third epoch, to be killed there."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Wait, for ever as far as a test is concerned."""
        if trainer.current_epoch == 2 and batch_idx == 2:
            time.sleep(600)
