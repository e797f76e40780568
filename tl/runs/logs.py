"""Logs of a run that do not end it: what cannot be written is left out, and said once."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from tensorboard.summary.writer import event_file_writer
from tensorboard.summary.writer.record_writer import RecordWriter

from tl.checkpoints.atomic_io import write_whole

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
    """Lightning's CSVLogger, which a full disk does not stop; rows are kept for the next time.

    The file is always whole: Lightning's writer leaves half a row or no header, and where a new
    column comes it empties the file before it writes it anew.
    """

    _said: _Said | None = None

    @rank_zero_only
    def save(self) -> None:
        """Write the rows since the last time."""
        path, writer = Path(self.log_dir) / "metrics.csv", self.experiment
        self._said = self._said or _Said(str(path))
        columns = sorted({*writer.metrics_keys}.union(*writer.metrics))
        size = path.stat().st_size if path.exists() else 0
        try:
            if size and columns != writer.metrics_keys:
                write_whole(path, [_under(columns, path)])
                size = path.stat().st_size
                writer.metrics_keys[:] = columns
            super().save()
        except OSError as error:
            with suppress(OSError):
                if size:
                    os.truncate(path, size)
                else:
                    path.unlink(missing_ok=True)
            self._said(error)


class RunFolder(Logger):
    """Tells the Trainer where a run's files lie, and logs nothing.

    As the first logger it gives configuration, results and checkpoints their folder, whatever
    loggers follow.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    @property
    def save_dir(self) -> str:
        """The run's folder, below which nothing else is."""
        return str(self._folder)

    @property
    def name(self) -> str:
        """Nothing."""
        return ""

    @property
    def version(self) -> str:
        """Nothing."""
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Leave them out."""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Leave them out."""


def _under(columns: list[str], path: Path) -> bytes:
    """Return the rows of a CSV file under another header."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    with path.open(newline="", encoding="utf-8") as file:
        writer.writerows(csv.DictReader(file))
    return text.getvalue().encode()
