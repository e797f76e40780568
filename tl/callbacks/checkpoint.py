"""Checkpoints of a run: the best and the last."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from tl.callbacks.checkpoint_writes import WrittenCheckpoint, settle_checkpoints
from tl.callbacks.surroundings import callbacks_of
from tl.checkpoints.atomic_io import AtomicCheckpointIO, weights_beside
from tl.modules.direction import check_direction
from tl.private.lightning import has_validated
from tl.tasks import Direction, deciding_score

_INFINITY = torch.tensor(torch.inf)


class RunCheckpoint(WrittenCheckpoint):
    """Lightning's ModelCheckpoint, keeping the best score across a resume.

    A resumed run has its own run folder. Lightning's class then forgets the best score, so that a
    worse epoch after the resume would count as the best. The earlier folder's files stay.

    Without a `monitor` it holds the last state: if training ends after the last validation, it is
    saved once more.

    A save due with the last batch of an epoch waits until the epoch is over. Before validation,
    Lightning's progress counters are such that a run resumed from there skips the validation and
    miscounts the next epoch, so that a second resume repeats steps.

    Nor is the last state saved between the micro-batches of one step, where a validation may fall:
    no checkpoint holds their gradients. It waits for the step. The best one does not wait, because
    its weights are the validated ones.

    With an :class:`~tl.callbacks.AtomicCheckpointIO`, as on the command line, a failed write is
    rolled back: the best score and the older files stay. All processes then stop or continue
    together. The best one's weights are also written as safetensors. Training continues while a
    file is written; the next checkpoint, a signal and the end of training wait for it, and an
    earlier file is removed once the new one is complete. With one process a failed write acts at
    the next step, with several when the next checkpoint is due.

    Args:
        dirpath: Folder of the files; by default ``checkpoints`` in the run folder.
        filename: Name without its extension.
        monitor: Metric that selects the best checkpoint; ``auto`` is the mean of the tasks' common
            score, such as ``val/acc``, or ``val/loss`` if their scores differ.
        mode: ``max`` or ``min``; by default it follows from the metric. Required for metrics from
            outside this framework.
        **kwargs: As in Lightning's class.

    Raises:
        ValueError: If the metric improves in the other direction, or its direction is unknown.
    """

    _waits = False
    _resumed_in: Path | None = None

    def __init__(
        self,
        dirpath: str | Path | None = None,
        filename: str | None = None,
        monitor: str | None = None,
        mode: Direction | None = None,
        **kwargs: Any,  # noqa: ANN401 - as in Lightning, whose names and types are checked
    ) -> None:
        if monitor not in (None, "auto"):
            mode = check_direction(str(monitor), mode, "the checkpoint")
        super().__init__(dirpath, filename, monitor=monitor, mode=mode or "min", **kwargs)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Resolve the ``auto`` metric from the tasks."""
        if self.monitor == "auto":
            name, higher = deciding_score(getattr(pl_module, "tasks", {}).values())
            self.monitor = f"val/{name}"
            self.mode, self.kth_value = ("max", -_INFINITY) if higher else ("min", _INFINITY)
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,  # noqa: ANN401 - whatever the data yield
        batch_idx: int,
    ) -> None:
        """Save after a number of steps or a time, but not at an epoch's end.

        Nor between the micro-batches of one step, whose gradients would be lost; a resumed run
        would do so, because it does not know that this step is already saved.
        """
        # several processes agree on what failed, which only fixed steps allow
        if self.pending is not None and trainer.world_size == 1 and self.pending.write.done():
            self.settle(trainer)
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped and not trainer.is_last_batch:
            self._save_what_waits(trainer)
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if due; never save the last state between the micro-batches of one step."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        between = done % trainer.accumulate_grad_batches and not trainer.is_last_batch
        if self.monitor is None and between and not self._should_skip_saving_checkpoint(trainer):
            self._waits = True
        else:
            super().on_validation_end(trainer, pl_module)

    def _save_topk_checkpoint(
        self, trainer: Trainer, monitor_candidates: dict[str, Tensor]
    ) -> None:
        """Save unless nothing has been validated yet, for which Lightning lists every metric."""
        scored = self.monitor is None or self.monitor in monitor_candidates
        if scored or has_validated(trainer):
            super()._save_topk_checkpoint(trainer, monitor_candidates)

    def _save_what_waits(self, trainer: Trainer) -> None:
        waits, self._waits = self._waits, False
        if waits and not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if due, by epochs or with the epoch's last batch."""
        self._save_what_waits(trainer)
        super().on_train_epoch_end(trainer, pl_module)
        if trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, None, None, 0)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last state if it is not saved yet, or if an average has replaced it."""
        settle_checkpoints(trainer)
        super().on_train_end(trainer, pl_module)
        if callbacks_of(trainer, StochasticWeightAveraging):
            self._last_global_step_saved = -1
        # already saved, or a fast_dev_run, which saves nothing
        skip = self._should_skip_saving_checkpoint(trainer)
        if self.monitor is None and self.save_top_k and not skip:
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
        self.settle(trainer)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Record the location of the resumed checkpoint, whose files may have been moved."""
        if trainer.ckpt_path is not None:
            self._resumed_in = Path(trainer.ckpt_path).absolute().parent

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the scores and paths of the resumed run, following moved files."""
        here = self.dirpath
        self.dirpath = state_dict.get("dirpath", here)
        super().load_state_dict(state_dict)
        there, self.dirpath = self.dirpath, here
        moved = {path: self._found(path, there) for path in self.best_k_models}
        # a missing file can be neither reported as the best nor replaced
        self.best_k_models = {
            moved[path]: score for path, score in self.best_k_models.items() if moved[path]
        }
        best, score = self.best_model_path, self.best_model_score
        self.best_model_path = self._found(best, there)
        if best and not self.best_model_path:
            self.best_model_score = None
            value = "" if score is None else f" ({self.monitor} {float(score):.4g})"
            rank_zero_warn(
                f"The best checkpoint so far{value} is gone: {best}. The best is selected among "
                "the checkpoints from here on."
            )
        self.kth_best_model_path = self._found(self.kth_best_model_path, there)
        if self.kth_best_model_path not in self.best_k_models:
            self.kth_best_model_path = ""

    def _found(self, path: str, folder: str | Path | None) -> str:
        """Return the current path of a file whose folder may have moved; empty if it is gone."""
        if not path:
            return ""
        places = [path]
        if self._resumed_in is not None and folder is not None:
            places.insert(0, os.path.join(self._resumed_in, os.path.relpath(path, folder)))  # noqa: PTH118 - normalised next
        return next((os.path.normpath(p) for p in places if Path(p).exists()), "")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rewrite the weights beside the best checkpoint if a kill left them outdated."""
        files = trainer.strategy.checkpoint_io
        best = self.best_model_path
        if self.monitor is None or not best or not trainer.is_global_zero:
            return
        if isinstance(files, AtomicCheckpointIO) and files.repair_weights(best):
            rank_zero_info(
                f"tl: {weights_beside(best)} did not match {Path(best).name}; rewritten."
            )


def best_of(trainer: Trainer) -> ModelCheckpoint | None:
    """Return the callback that keeps a run's best checkpoint; ``None`` if there is none.

    That is the run's own, whatever other checkpoints the user adds; without it, one that monitors a
    metric is preferred.
    """
    return max(
        callbacks_of(trainer, ModelCheckpoint),
        key=lambda c: (c.monitor is not None, isinstance(c, RunCheckpoint)),
        default=None,
    )
