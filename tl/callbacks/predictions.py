"""``predictions.csv``: the model's prediction for each image."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tl.callbacks.map_files import MapFiles, file_names
from tl.callbacks.surroundings import data_of
from tl.data import ImageDataModule
from tl.data.images.resident import ImageDataset
from tl.data.text.source import TextSource
from tl.data.text.text_set import TextSet
from tl.modules.evaluation import loader_suffix
from tl.reading import shown
from tl.tasks.pixels import PixelTask

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBERS = re.compile(r"-?[\d.]+(e[+-]\d+)?(; -?[\d.]+(e[+-]\d+)?)*|-inf")  # of a regression
_COLUMNS = ("image", "task")
_MAP = "map"  # column of files


class PredictionWriter(Callback):
    """Write a CSV of predictions: one row per image and task.

    Columns: ``image`` (its path, the text itself, or its index in the test set, followed by
    ``/dataloader_idx_<i>`` if a foreign data module has several loaders), ``task``, and those of
    the tasks: for a classification ``class``, ``class_name``, ``probability``, and ``top5``, the
    most probable classes with their probabilities, separated by semicolons; for a regression
    ``value``; for answers for pixels a summary and ``map``, the file that holds them, below a
    folder of the CSV's name (see `MapFiles`). Rows are in the order of sources and images, also
    with several processes.

    Rows are written as they are computed, to a file with the suffix ``.part``, which is renamed
    when complete: a killed run leaves the rows so far. Each of several processes writes its own
    part, ``.part-1`` and so on, and the first joins them at the end.

    Args:
        filename: Name of the file in the run folder, or a path.
    """

    def __init__(self, filename: str = "predictions.csv") -> None:
        self.filename = filename
        self._part: RowFile | None = None
        self._columns: tuple[str, ...] = _COLUMNS
        self._order: list[tuple[int, int, int]] = []  # of several processes' rows
        self._seen: dict[tuple[int, str], int] = {}
        self._maps: MapFiles | None = None
        self._named: dict[str | None, Mapping[str, str]] = {}  # files by source and image

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start a new file."""
        path = self._path(trainer)
        end = f"-{trainer.global_rank}" if trainer.global_rank else ""
        kinds = getattr(pl_module, "tasks", {}).values()
        more = dict.fromkeys(name for kind in kinds for name in kind.columns)
        on_pixels = any(isinstance(kind, PixelTask) for kind in kinds)
        beside = path.with_suffix("") if path.suffix else path.with_name(f"{path.name}_maps")
        self._maps = MapFiles(beside) if on_pixels else None
        self._named = {}
        self._columns = (*_COLUMNS, *more, *([_MAP] if on_pixels else []))
        self._part = RowFile(path.with_name(f"{path.name}.part{end}"), self._columns)
        self._order, self._seen = [], {}

    def _path(self, trainer: Trainer) -> Path:
        path = Path(self.filename)
        if not path.is_absolute() and path.parent == Path():
            path = Path(trainer.log_dir or trainer.default_root_dir) / path
        return path

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Mapping[str, tuple[Tensor, Tensor]],
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the rows of a batch."""
        class_names = getattr(getattr(trainer, "datamodule", None), "class_names", {})
        tasks: Mapping[str, Any] = getattr(pl_module, "tasks", {})
        # the loaders of a foreign data module each start at 0
        suffix = loader_suffix(dataloader_idx, trainer.predict_loop.num_dataloaders)
        rows: list[tuple[tuple[int, int, int], tuple[Any, ...]]] = []
        for order, (name, (answers, index)) in enumerate(outputs.items()):
            task = tasks[name]
            names = class_names.get(name) or only(class_names, getattr(task, "num_classes", 0))
            split = predicted_split(trainer, task.source)
            positions = index.tolist()
            if split is None:  # another kind of data module: the second element holds labels
                begin = self._seen.get((dataloader_idx, name), 0)
                self._seen[dataloader_idx, name] = begin + len(positions)
                positions = [
                    trainer.global_rank + trainer.world_size * (begin + i)
                    for i in range(len(positions))
                ]
            images = [
                split.name(position) if split is not None else f"{position}{suffix}"
                for position in positions
            ]
            told = task.cells(answers, names)
            if self._maps is not None and isinstance(task, PixelTask):
                files = self._maps.add(
                    name, self._files(images, split, task.source), task.map_file(answers)
                )
                told = [{**cells, _MAP: file} for cells, file in zip(told, files, strict=True)]
            for position, image, cells in zip(positions, images, told, strict=True):
                row = (image, name, *(cells.get(column, "") for column in self._columns[2:]))
                rows.append(((dataloader_idx, position, order), row))
        rows.sort(key=lambda row: row[0])
        if trainer.world_size > 1:
            self._order += [place for place, _ in rows]
        cast("RowFile", self._part).add([row for _, row in rows])

    def _files(
        self, images: Sequence[str], split: ImageDataset | TextSet | None, source: str | None
    ) -> list[str]:
        """Return what the maps of images are called; of one source's images in its own folder."""
        if split is None:
            return list(images)  # numbers
        if source not in self._named:
            self._named[source] = file_names([split.name(i) for i in range(len(split))])
        return [self._named[source][image] for image in images]

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rename the complete file."""
        part, path = cast("RowFile", self._part), self._path(trainer)
        part.close()
        if trainer.world_size > 1:
            own = list(zip(self._order, part.rows(), strict=True))
            parts: list[list[Any]] = [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(parts, own)
            part.path.unlink()
            if trainer.is_global_zero:
                part = RowFile(part.path, self._columns)
                part.add([row for _, row in sorted(chain(*parts), key=lambda row: row[0])])
                part.close()
        if trainer.is_global_zero:
            part.path.replace(path)
            rank_zero_info(f"tl: {part.count} predictions in {shown(path)}")
        self._part, self._order = None, []

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Report where the rows so far are."""
        if self._part is not None and self._part.count:
            rank_zero_info(f"tl: {self._part.count} predictions so far in {self._part.path}")


def only(class_names: Mapping[str, Any], count: int) -> Any:  # noqa: ANN401
    """Return the only set of class names, if the task is named differently from the data's."""
    found = next(iter(class_names.values())) if len(class_names) == 1 else None
    return found if found is not None and len(found) == count else None


def predicted_split(trainer: Trainer, source: str | None) -> ImageDataset | TextSet | None:
    """The predicted samples, which know their names; ``None`` for a foreign data module."""
    owner = data_of(trainer, source)
    if not isinstance(owner, ImageDataModule | TextSource):
        return None
    return owner.splits.get("predict")


def plain_cell(value: object) -> object:
    """Prefix an apostrophe to text that a spreadsheet would run as a formula."""
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    return value if _NUMBERS.fullmatch(value) else f"'{value}"


class RowFile:
    """A growing CSV file of predictions, readable at any time.

    Args:
        path: The file; an earlier one is replaced.
        columns: Column names.

    Attributes:
        count: Number of rows.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self.path = path
        self.count = 0
        # a file name may not be valid UTF-8
        self._file = path.open("x", newline="", encoding="utf-8", errors="backslashreplace")
        self._writer = csv.writer(self._file)
        self._writer.writerow(columns)

    def add(self, rows: Sequence[Sequence[object]]) -> None:
        """Write rows and flush them.

        Raises:
            OSError: If they cannot be written, naming the file.
        """
        try:
            self._writer.writerows([plain_cell(cell) for cell in row] for row in rows)
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self.count += len(rows)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def rows(self) -> list[list[str]]:
        """Return what was written."""
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.reader(file))[1:]
