"""Logs of a run that do not end it: what cannot be written is left out, and said once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from tensorboard.summary.writer import event_file_writer
from tensorboard.summary.writer.record_writer import RecordWriter

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class _Said:
    """Says once that a log has gaps.

    Args:
        what: Name of the log.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.done = False

    def __call__(self, error: OSError) -> None:
        if not self.done:
            self.done = True
            reason = error.strerror or str(error)
            rank_zero_info(f"tl: {self.what}: {reason}. The log has gaps.")


class _LosingWriter(RecordWriter):  # type: ignore[misc]  # tensorboard has no types
    """TensorBoard's writer, which drops what does not fit.

    Its own fails in a thread, with a traceback, and from then on in every call.
    """

    def __init__(self, writer: object) -> None:
        super().__init__(writer)
        self._said = _Said(os.fsdecode(getattr(writer, "filename", "events of TensorBoard")))

    def write(self, data: bytes) -> None:
        """Write a record."""
        try:
            super().write(data)
        except OSError as error:
            self._said(error)

    def flush(self) -> None:
        """Flush what was written."""
        try:
            super().flush()
        except OSError as error:
            self._said(error)

    def close(self) -> None:
        """Close the file."""
        try:
            super().close()
        except OSError as error:
            self._said(error)


class RunTensorBoard(TensorBoardLogger):
    """Lightning's TensorBoardLogger, which a full disk does not stop."""

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """The writer."""
        if self._experiment is None:
            before = event_file_writer.RecordWriter
            event_file_writer.RecordWriter = _LosingWriter
            try:
                super().experiment  # noqa: B018 - it is made when it is first asked for
            finally:
                event_file_writer.RecordWriter = before
        made: SummaryWriter = super().experiment
        return made

    @rank_zero_only
    def save(self) -> None:
        """Write the hyperparameters."""
        try:
            super().save()
        except OSError as error:
            _Said(str(Path(self.log_dir) / self.NAME_HPARAMS_FILE))(error)


class RunCSV(CSVLogger):
    """Lightning's CSVLogger, which a full disk does not stop; rows are kept for the next time."""

    _said: _Said | None = None

    @rank_zero_only
    def save(self) -> None:
        """Write the rows since the last time."""
        self._said = self._said or _Said(str(Path(self.log_dir) / "metrics.csv"))
        try:
            super().save()
        except OSError as error:
            self._said(error)
