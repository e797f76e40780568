"""The progress bar, updated at a rate that costs nothing."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class RunProgressBar(RichProgressBar):
    """Lightning's rich progress bar, updated every n-th step.

    Lightning's collects all metrics at every step, whether or not it shows them.

    Args:
        every_n_steps: Training steps between updates.
        refresh_rate: Redraws per second; 0 turns the bar off.

    Raises:
        ValueError: If `every_n_steps` is below 1.
    """

    def __init__(self, every_n_steps: int = 10, refresh_rate: int = 4) -> None:
        if every_n_steps < 1:
            raise ValueError(f"`every_n_steps` must be 1 or more, got {every_n_steps}.")
        super().__init__(refresh_rate=refresh_rate)
        self.every_n_steps = every_n_steps

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Update the bar every n-th step, and at an epoch's last."""
        done = batch_idx + 1
        if done % self.every_n_steps == 0 or done == trainer.num_training_batches:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
