"""All processes of a run resume from the same checkpoint, or none does."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer


class SameCheckpoint(Callback):
    """Stop before training if the processes have not chosen the same checkpoint.

    Each may have searched by itself, while a file appeared or vanished.

    Args:
        path: The choice of this process; ``None`` to start from scratch.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compare with the first process.

        Raises:
            ValueError: In all processes, if one differs.
        """
        if trainer.world_size == 1:
            return
        first = trainer.strategy.broadcast(self.path)
        if not trainer.strategy.reduce_boolean_decision(first == self.path, all=True):
            raise ValueError(
                f"The processes found different checkpoints to resume from: the first one "
                f"{first}, this one {self.path}. Run the command again, or name one with "
                "--ckpt_path."
            )
