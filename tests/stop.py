"""A callback for tests: ends a run after an epoch, as a cut-off does, without an error."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer


class StopAfter(Callback):
    """Stop after the second epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask the trainer to stop."""
        trainer.should_stop = trainer.current_epoch >= 1
