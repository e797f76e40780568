"""Checkpoints whose files are written while training continues, and what a failed write undoes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import proxy

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tl.callbacks.surroundings import callbacks_of
from tl.checkpoints.atomic_io import AtomicCheckpointIO, weights_beside
from tl.checkpoints.background import Write
from tl.private.lightning import LAST_SAVED

# Attributes that Lightning's class sets for a checkpoint, some before the file is written.
_BOOKS = (
    *("best_k_models", "best_model_path", "best_model_score", "kth_best_model_path", "kth_value"),
    *("current_score", "last_model_path", *LAST_SAVED),
)


class CheckpointNotWrittenError(OSError):
    """A checkpoint could not be written; the earlier file is unchanged."""


@dataclass
class Pending:
    """A checkpoint that is being written.

    Attributes:
        write: Tells when it is over and what failed.
        step: Optimizer steps before it.
        books: The callback's records before it, restored if it fails.
        outdated: Files to remove once it is complete.
    """

    write: Write
    step: int
    books: dict[str, Any]
    outdated: list[str] = field(default_factory=list)


class WrittenCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, aware that a file may be written later, or not at all.

    With an :class:`~tl.callbacks.AtomicCheckpointIO` the callback's records run ahead of the file.
    :meth:`settle` waits for it: if the write failed, the records are rolled back, and the run stops
    or continues as `on_write_error` says, in all processes alike; otherwise files that the new one
    replaces are removed, and loggers hear of it.

    Attributes:
        pending: The checkpoint that is being written, if any.
        unsaved: Why the last checkpoint that was due could not be written; ``None`` if it was.
    """

    pending: Pending | None = None
    unsaved: OSError | None = None

    # When a run ends early

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Wait for the file being written; do not agree with other processes, which may be gone."""
        self._finish_alone(trainer, exception)
        super().on_exception(trainer, pl_module, exception)
        self._finish_alone(trainer, exception)

    def _save_topk_checkpoint(
        self, trainer: Trainer, monitor_candidates: dict[str, Tensor]
    ) -> None:
        with self._as_if_never_tried(trainer):
            super()._save_topk_checkpoint(trainer, monitor_candidates)

    def _save_last_checkpoint(
        self, trainer: Trainer, monitor_candidates: dict[str, Tensor]
    ) -> None:
        if not self.save_last:
            return
        with self._as_if_never_tried(trainer):
            super()._save_last_checkpoint(trainer, monitor_candidates)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        files = trainer.strategy.checkpoint_io
        if not isinstance(files, AtomicCheckpointIO):
            super()._save_checkpoint(trainer, filepath)
            return
        after = [each.write for each in _under_way(trainer)]
        books, weights = self._books(), self.monitor is not None
        with files.deciding(weights=weights, path=filepath, background=True, after=after) as write:
            trainer.save_checkpoint(filepath, self.save_weights_only)
        # as Lightning's own method, but loggers hear of the file when it is there
        for name, value in zip(LAST_SAVED, (trainer.global_step, filepath), strict=True):
            setattr(self, name, value)
        self.pending = Pending(write, trainer.global_step, books)

    def _books(self) -> dict[str, Any]:
        return {name: copy.copy(getattr(self, name)) for name in _BOOKS}

    @contextmanager
    def _as_if_never_tried(self, trainer: Trainer) -> Iterator[None]:
        """Roll back the records of a checkpoint that cannot be written, once that is known."""
        settle_checkpoints(trainer, but_of=self)
        before = self._books()
        yield
        if self.pending is not None:
            self.pending.books = before
            files = trainer.strategy.checkpoint_io
            at_once = isinstance(files, AtomicCheckpointIO) and not files.background
            if at_once or (self.pending.write.job is None and trainer.world_size == 1):
                self.settle(trainer)

    def file_exists(self, filepath: str | Path, trainer: Trainer) -> bool:
        """Return whether a file exists or is being written for another callback."""
        files = trainer.strategy.checkpoint_io
        names = [each.write.path for each in _under_way(trainer)]
        if isinstance(files, AtomicCheckpointIO) and str(filepath) in names:
            files.wait()
        return super().file_exists(filepath, trainer)

    def settle(self, trainer: Trainer) -> None:
        """Wait for the file being written, if any, and act on what became of it.

        All processes must call this together.

        Raises:
            OSError: If it could not be written, unless `on_write_error` is ``warn``.
        """
        if self.pending is None:
            return
        write = self.pending.write
        try:
            write.wait()
        except Exception:  # whatever it is: the records must not name a file that is not there
            self._roll_back(self.pending)
            raise
        failed, weights_failed = trainer.strategy.broadcast((write.failed, write.weights_failed))
        self._close_books(trainer, failed)
        if failed is not None:
            error = CheckpointNotWrittenError(failed.errno, failed.strerror, failed.filename)
            self._stop_or_warn(trainer, error)
        elif weights_failed is not None:
            self._stop_or_warn(trainer, weights_failed)

    def _finish_alone(self, trainer: Trainer, exception: BaseException) -> None:
        """Wait for the file being written while an exception ends the run, which prevails."""
        if self.pending is None:
            return
        write = self.pending.write
        try:
            write.wait()
        except Exception as error:  # noqa: BLE001 - not of the disk
            self._roll_back(self.pending)
            rank_zero_info(f"tl: {write.path} was not written: {error}")
            return
        self._close_books(trainer, write.failed)
        failed = write.failed or write.weights_failed
        if failed is not None:
            self.unsaved = failed
            if not isinstance(exception, OSError):  # which may tell the same
                rank_zero_info(
                    f"tl: {failed.filename}: {failed.strerror}. An earlier file is unchanged."
                )

    def _close_books(self, trainer: Trainer, failed: OSError | None) -> None:
        pending = self.pending
        if pending is None:
            return
        if failed is not None:
            self._roll_back(pending)
            return
        self.pending = None
        self.unsaved = None
        for path in pending.outdated:
            self._remove_checkpoint(trainer, path)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(proxy(self))

    def _roll_back(self, pending: Pending) -> None:
        """Return to the records before a checkpoint that was not written."""
        self.pending = None
        for name, value in pending.books.items():
            setattr(self, name, value)

    def _stop_or_warn(self, trainer: Trainer, error: OSError) -> None:
        self.unsaved = error
        files = trainer.strategy.checkpoint_io
        if not isinstance(files, AtomicCheckpointIO) or files.on_write_error == "stop":
            raise error
        rank_zero_info(
            f"tl: {error.filename}: {error.strerror}. The file was not written, and an earlier "
            "one is unchanged. The run continues, and retries when the next one is due."
        )

    def _remove_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        if self.pending is not None:
            self.pending.outdated.append(filepath)
            return
        super()._remove_checkpoint(trainer, filepath)
        files = trainer.strategy.checkpoint_io
        if isinstance(files, AtomicCheckpointIO) and "://" not in filepath:
            trainer.strategy.remove_checkpoint(weights_beside(filepath))


def _under_way(trainer: Trainer) -> list[Pending]:
    found = callbacks_of(trainer, WrittenCheckpoint)
    return [each.pending for each in found if each.pending is not None]


def settle_checkpoints(trainer: Trainer, but_of: WrittenCheckpoint | None = None) -> None:
    """Wait for all checkpoints being written, and act on what became of them.

    All processes must call this together.

    Args:
        trainer: The Trainer.
        but_of: The callback about to save: others' checkpoints of the same step are not waited for.

    Raises:
        OSError: If one could not be written, unless `on_write_error` is ``warn``.
    """
    for each in callbacks_of(trainer, WrittenCheckpoint):
        pending = each.pending
        same = but_of is not None and but_of is not each
        if pending is not None and not (same and pending.step == trainer.global_step):
            each.settle(trainer)
