"""All processes of a run go on from the same checkpoint, or none does."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer


class SameCheckpoint(Callback):
    """Stop before training where processes have not chosen the same checkpoint.

    Each may have looked for it by itself, while a file came or went.

    Args:
        path: What this process has chosen; ``None`` to start from the beginning.
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
                "The processes have not found the same checkpoint to go on from: the first one "
                f"{first}, this one {self.path}. Start the command again, or name one by "
                "--ckpt_path."
            )
