"""Images that a table names, with its columns as targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tl.counting import counted
from tl.data.errors import DataError, listed
from tl.data.folder import TEST_SEED, FolderDataModule
from tl.data.images.class_folders import ImageFiles
from tl.data.images.image_table import check_there, read_image_table
from tl.data.images.layout import Layout
from tl.data.images.resident import ImageDataset
from tl.data.naming import name_of_table, plain_name
from tl.data.split import Split, random_split, stratified_split
from tl.data.text.table import Table
from tl.data.text.targets import Kind, find_class_names, make_task, read_target, target_kinds
from tl.data.trained_on import record_of
from tl.tasks import Task

_STRATUM = "split by/"  # no column has such a name: it is also a path


def from_csv(
    table: str | Path,
    *,
    image: str = "image",
    tasks: str | Sequence[str] | Mapping[str, Kind] = "label",
    **options: Any,  # noqa: ANN401 - each has its type there
) -> CsvDataModule:
    """Return the images that a table names, with its columns as tasks.

    Args:
        table: A ``.csv``, ``.tsv`` or ``.jsonl`` with a row per image.
        image: Column of the paths, which start from the table's folder, or from ``root`` if given.
        tasks: Column to learn, or several, or their kinds by column: ``class``, ``number`` or
            ``labels``.
        **options: As for :class:`CsvDataModule`.
    """
    path = Path(table).expanduser()
    place = {"root": str(path.parent), "table": path.name}
    if "root" in options:
        here = {"table": str(path.absolute()), "folder": "."}
        place = here if path.is_file() else {"table": str(path)}
    return CsvDataModule(**{**place, "image": image, "targets": tasks} | options)


@dataclass(kw_only=True, eq=False)
class CsvDataModule(FolderDataModule):
    """Images in any folders, named in a table with a row per image: ``root/labels.csv``.

    A target is a column of classes, of numbers, or of several labels in a cell; a module may have
    several. An empty cell has no target; of several labels, none holds. With a column `split` its
    rows say ``train``, ``val`` or ``test``; without one, `test_size` of the rows are held out for
    ``test``, the same for every seed, and `val_size` of the others validate, each class in
    proportion. Images are read, checked, cached and resized as by `FolderDataModule`.

    Args:
        table: File below ``root``, or its full path: ``.csv``, ``.tsv`` or ``.jsonl``.
        image: Column of the paths.
        folder: Folder below ``root`` that the paths start from; by default the table's own.
        suffix: Ending that the paths lack, such as ``.jpg`` where the column holds bare names.
        targets: Column to learn, or several, or their kinds by column: ``class``, ``number``, or
            ``labels`` (any number of classes, separated by semicolons or a list).
        split: Column that assigns rows to ``train``, ``val`` and ``test``.
        groups: Not used here: a group is one more column of `targets`.

    Raises:
        ValueError: If there is nothing to learn, or a number is out of range.
    """

    table: str = "labels.csv"
    image: str = "image"
    suffix: str = ""
    targets: str | Sequence[str] | Mapping[str, Kind] = "label"  # type: ignore[assignment]  # columns
    split: str | None = None

    def __post_init__(self) -> None:
        self._read_table: dict[Split, Table] | None = None
        super().__post_init__()

    def _check_groups(self) -> None:
        if self.groups is not None:
            raise ValueError(
                "`groups` is for class folders; here a group is one more column of `targets`."
            )
        if not self.kinds:
            raise ValueError("`targets` is empty; name at least one column to learn.")

    @property
    def kinds(self) -> dict[str, Kind]:
        """Kind of target by column."""
        return target_kinds(self.targets)

    # The table

    def _default_name(self) -> str:
        return plain_name(name_of_table(Path(self.root or "data") / self.table)) or "images"

    def _path(self) -> Path:
        return Path(self.settings.root).expanduser() / self.table

    def _reload(self) -> None:
        self._read_table = None
        super()._reload()

    @property
    def _rows(self) -> dict[Split, Table]:
        if self._read_table is None:
            given = (self._path(), self.image, self.split, self._paths)
            self._read_table = read_image_table(*given)
        return self._read_table

    def _rows_of(self, split: Split) -> Table:
        if split not in self._rows:
            raise DataError(f"{self._path()} has no row of the split {split} ({self.split}).")
        return self._rows[split]

    def _start(self) -> Path:
        """Return the folder that the paths of the table start from."""
        return self._path().parent if self.folder is None else self._folder()

    def _paths(self, cells: Sequence[str]) -> tuple[Path, ...]:
        folder = self._start()
        return tuple(folder / f"{cell}{self.suffix}" for cell in cells)

    # What a folder of classes says by its folders

    def _layout(self) -> Layout:
        if self.split is None:
            return Layout(self._path(), whole=True)
        names: tuple[Split, ...] = ("val", "test")
        places = {name: self._path() / name for name in names if name in self._rows}
        return Layout(self._path(), places.get("val"), places.get("test"))

    def _targets_asked_for(self) -> tuple[str, ...]:
        return tuple(self.kinds)

    def target_classes(self) -> dict[str, tuple[str, ...]]:
        """Class names by column, from the training rows; a number has none.

        Raises:
            DataError: If the table cannot be read, or lacks a column.
        """
        if self.trained_on is not None:
            return self.trained_on.classes
        table = self._rows_of("train")
        return {c: find_class_names(table, c, kind) for c, kind in self.kinds.items()}

    @property
    def tasks(self) -> tuple[Task, ...]:
        """A task per column: named after the table, or ``<table>_<column>`` for several."""
        classes, several = self.target_classes(), len(self.kinds) > 1
        return tuple(
            make_task(
                f"{self.data_name}_{plain_name(column) or number}" if several else self.data_name,
                kind,
                classes[column],
                column if several else None,
            )
            for number, (column, kind) in enumerate(self.kinds.items())
        )

    def class_groups(self) -> None:
        """Return ``None``: a group is a target of its own."""
        return

    def strata(self) -> tuple[str, tuple[str, ...]]:
        """Return the first column of classes, which splits keep in proportion."""
        column = self._stratified_by()
        return ("", ()) if column is None else (_STRATUM, self.target_classes()[column])

    def _stratified_by(self) -> str | None:
        return next((column for column, kind in self.kinds.items() if kind == "class"), None)

    def _files(self, split: Split) -> ImageFiles:
        table, classes = self._rows_of(split), self.target_classes()
        targets = {c: read_target(table, c, kind, classes[c]) for c, kind in self.kinds.items()}
        column, (_, names) = self._stratified_by(), self.strata()
        labels = torch.zeros(len(table), dtype=torch.int64)
        if column is not None:
            # rows without a label are dealt out evenly
            dealt = torch.arange(len(table)) % len(names)
            labels = torch.where(targets[column] < 0, dealt, targets[column])
        folder = self._start()
        paths = self._paths([str(cell).strip() for cell in table.columns[self.image]])
        check_there(paths, table, some=self.on_bad_image == "skip")
        files = ImageFiles(folder, names or ("images",), paths, labels, targets=targets)
        layout = self._layout()
        if not layout.whole:
            return files
        share = self._test_share()
        if column is not None:
            train, test = stratified_split(
                labels,
                val_size=share,
                label_fraction=1.0,
                seed=TEST_SEED,
                classes=names,
                held_out="test_size",
                partial=self.trained_on is not None,
            )
        else:
            train, test = random_split(len(table), share, 1.0, TEST_SEED)
        return files.take(train if split == "train" else test)

    def _labels(self, files: ImageFiles) -> dict[str, Tensor]:
        return {**files.targets, _STRATUM: files.labels}

    def _checked(self, split: Split) -> ImageDataset:
        data = self.load(split)
        for column, task in self._tasks_by_target():
            try:
                task.check(data.targets[column])
            except ValueError as error:
                raise DataError(f"{self.data_name}: {split} images: {error}") from None
        return data

    # Evaluation

    def adopt(self, record: Mapping[str, Any], sources: int | None = None) -> bool:
        """Evaluate as a checkpoint was trained; its only target is the only column here."""
        part = record_of(record, self.data_name, sources or 1)
        names = part.get("class_names") or {}
        if len(names) == len(self.kinds) == 1:
            renamed = dict(zip(self.kinds, names.values(), strict=True))
            own = self.data_name if sources is not None else part["name"]
            part = {**part, "name": own, "class_names": renamed, "groups": None}
        return super().adopt(part, sources)

    def describe(self) -> dict[str, Any]:
        """Return a description of the loaded data, with the columns that were read."""
        names = ("image", "folder", "suffix", "split")
        columns = {name: getattr(self, name) for name in names} | {"targets": dict(self.kinds)}
        return super().describe() | {"table": self.table, "columns": columns}

    def _log_splits(self) -> None:
        train, val = len(self.splits["train"]), len(self.splits["val"])
        held = len(self._files("test").paths) if "test" in self.official_splits() else 0
        how = f"as the column {self.split!r} says" if self.split else "the same test rows always"
        rank_zero_info(
            f"tl: {self.data_name}: {counted(train, 'image')} to train, {val:,} to validate, "
            f"{held:,} to test, "
            f"{how}; targets {listed([f'{c} ({kind})' for c, kind in self.kinds.items()])}."
        )

    def _no_test(self) -> str:
        if self.split is None:
            return "`test_size` is 0."
        return f"{self._path()} has no row of the split test ({self.split})."
