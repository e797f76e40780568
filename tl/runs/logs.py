"""Logs that never end a run: what cannot be written is dropped, with one warning."""

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

from tl.callbacks.task_names import NamesTask
from tl.checkpoints.whole_files import write_whole

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class _Said:
    """Drop what cannot be written in this context, and warn once that a log has gaps.

    Args:
        what: Name of the log.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self.done = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> bool:
        if isinstance(error, OSError) and not self.done:
            self.done = True
            reason = error.strerror or str(error)
            rank_zero_info(f"tl: {self.what}: {reason}. The log has gaps.")
        return isinstance(error, OSError)


class _LosingWriter(RecordWriter):  # type: ignore[misc]  # tensorboard has no types
    """TensorBoard's writer, dropping what cannot be written.

    The original fails in a thread, with a traceback, and then in every call.
    """

    def __init__(self, writer: object) -> None:
        super().__init__(writer)
        self._said = _Said(os.fsdecode(getattr(writer, "filename", "events of TensorBoard")))

    def write(self, data: bytes) -> None:
        """Write a record."""
        with self._said:
            super().write(data)

    def flush(self) -> None:
        """Flush the file."""
        with self._said:
            super().flush()

    def close(self) -> None:
        """Close the file."""
        with self._said:
            super().close()


class RunTensorBoard(NamesTask, TensorBoardLogger):
    """Lightning's TensorBoardLogger, surviving a full disk; see `NamesTask` for single tasks."""

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """The writer."""
        if self._experiment is None:
            before = event_file_writer.RecordWriter
            event_file_writer.RecordWriter = _LosingWriter
            try:
                super().experiment  # noqa: B018 - created on first access
            finally:
                event_file_writer.RecordWriter = before
        made: SummaryWriter = super().experiment
        return made

    @rank_zero_only
    def save(self) -> None:
        """Write the hyperparameters."""
        with _Said(str(Path(self.log_dir) / self.NAME_HPARAMS_FILE)):
            super().save()


class RunCSV(CSVLogger):
    """Lightning's CSVLogger, surviving a full disk; unwritten rows are kept for the next save.

    The file is always whole. Lightning's writer can leave half a row or no header, and for a new
    column it empties the file before rewriting it.
    """

    _said: _Said | None = None

    @rank_zero_only
    def save(self) -> None:
        """Write the rows added since the last save."""
        path, writer = Path(self.log_dir) / "metrics.csv", self.experiment
        self._said = self._said or _Said(str(path))
        columns = sorted({*writer.metrics_keys}.union(*writer.metrics))
        size = path.stat().st_size if path.exists() else 0
        with self._said:
            try:
                if size and columns != writer.metrics_keys:
                    write_whole(path, [_under(columns, path)])
                    size = path.stat().st_size
                    writer.metrics_keys[:] = columns
                super().save()
            except OSError:
                with suppress(OSError):
                    if size:
                        os.truncate(path, size)
                    else:
                        path.unlink(missing_ok=True)
                raise


class RunFolder(Logger):
    """Tells the Trainer where a run's files go, and logs nothing.

    As the first logger it determines the folder of configuration, results and checkpoints, whatever
    other loggers there are.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    @property
    def save_dir(self) -> str:
        """The run's folder; there are no subfolders."""
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
    """Return the rows of a CSV file under a new header."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    with path.open(newline="", encoding="utf-8") as file:
        writer.writerows(csv.DictReader(file))
    return text.getvalue().encode()
