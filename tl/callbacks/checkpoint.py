"""Checkpoints of a run: the best and the last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.types import STEP_OUTPUT


class RunCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, which in a resumed run still knows the best score so far.

    A resumed run has a run folder of its own. Lightning's class then forgets the best score, so
    that a worse epoch after the resume would pass for the best. The earlier folder's files stay.

    Without a `monitor` it holds the last state: where training ends after the last validation, it
    is saved once more.

    A save that is due with the last batch of an epoch waits until the epoch is over. Between them,
    before validation, Lightning's progress counters are such that a run which goes on from there
    skips the validation and counts the next epoch wrongly, so that a second resume repeats steps.
    """

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,  # noqa: ANN401 - whatever the data yield
        batch_idx: int,
    ) -> None:
        """Save where so many steps or so much time have passed, but not at an epoch's end."""
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if it is due, by epochs or with the epoch's last batch."""
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, None, None, 0)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last state if it is not saved yet."""
        super().on_train_end(trainer, pl_module)
        saved = self._last_global_step_saved == trainer.global_step
        if self.monitor is None and self.save_top_k and not saved:
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the scores and paths of the run that goes on, wherever they lie."""
        here = self.dirpath
        self.dirpath = state_dict.get("dirpath", here)
        super().load_state_dict(state_dict)
        self.dirpath = here
        # a file that is gone can neither be named as the best nor be replaced
        self.best_k_models = {p: s for p, s in self.best_k_models.items() if Path(p).exists()}
        if self.best_model_path and not Path(self.best_model_path).exists():
            self.best_model_path, self.best_model_score = "", None
        if self.kth_best_model_path not in self.best_k_models:
            self.kth_best_model_path = ""
