"""Tables of text: csv, jsonl and plain sentences, compressed or not."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

from tl.data.errors import DataError, listed
from tl.data.images.layout import VALIDATION
from tl.data.split import Split
from tl.reading import check_regular

#: What a column may call the splits.
SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys((*VALIDATION, "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_OPENERS: dict[str, Any] = {".xz": lzma.open, ".gz": gzip.open}
_FORMATS = (".csv", ".tsv", ".jsonl", ".txt")
_MOST_CHARACTERS = 2**27  # of a csv cell; the module's own limit is 131,072


@dataclass(frozen=True)
class Table:
    """Columns of a file.

    Args:
        columns: Cells by column: text from csv, whatever JSON holds from jsonl.
        lines: Line of the file at which each row ends, for messages.
        path: The file, for messages.
    """

    columns: dict[str, list[Any]]
    lines: Sequence[int]
    path: str

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.lines)

    def column(self, name: str, option: str) -> list[Any]:
        """Return the cells of a column.

        Args:
            name: Its name.
            option: Option that names it, for the message.

        Raises:
            DataError: If there is no such column; lists the columns.
        """
        if name not in self.columns:
            raise DataError(
                f"{self.path} has no column {name!r} (`{option}`); its columns are "
                f"{listed(list(self.columns))}."
            )
        return self.columns[name]

    def texts(self, name: str, option: str) -> list[str]:
        """Return the texts of a column, none of them empty.

        Args:
            name: Its name.
            option: Option that names it, for the message.

        Raises:
            DataError: If the column is missing, or a row has no text in it.
        """
        cells = self.column(name, option)
        empty = [i for i, cell in enumerate(cells) if not isinstance(cell, str) or not cell.strip()]
        if empty:
            raise DataError(
                f"{self.where(empty[0])} has no text ({name}); so have {len(empty)} of "
                f"{len(cells)} rows. Remove them, or fill them in."
            )
        return cells

    def where(self, row: int) -> str:
        """Return file and line of a row."""
        return f"{self.path}, line {self.lines[row]}"

    def rows(self, chosen: Sequence[int]) -> Table:
        """Return some of the rows."""
        columns = {name: [cells[i] for i in chosen] for name, cells in self.columns.items()}
        return Table(columns, [self.lines[i] for i in chosen], self.path)

    def by_split(self, column: str, expected: str) -> dict[Split, Table]:
        """Return the rows of each split that a column names.

        Args:
            column: Name of the column.
            expected: End of the message about another name.

        Raises:
            DataError: If there is no such column, or a cell holds another name.
        """
        rows: dict[Split, list[int]] = {}
        for row, cell in enumerate(self.column(column, "split")):
            split = SPLITS.get(str(cell).strip().lower())
            if split is None:
                raise DataError(f"{self.where(row)} has the split {cell!r}{expected}")
            rows.setdefault(split, []).append(row)
        return {split: self.rows(chosen) for split, chosen in rows.items()}


def read_table(path: str | Path, encoding: str = "utf-8", text: str = "text") -> Table:
    """Read a table in the format of its extension.

    Args:
        path: ``.csv``, ``.tsv``, ``.jsonl`` (an object per line) or ``.txt`` (a sentence per line),
            optionally followed by ``.xz`` or ``.gz``. A ``.csv`` whose first line has no comma is
            separated by semicolons or tabs if that line has them.
        encoding: Encoding of the characters.
        text: Name of the only column of a ``.txt``.

    Raises:
        DataError: If it cannot be read or decoded, or a line has another form.
    """
    path = Path(path).expanduser()
    suffixes = [suffix.lower() for suffix in path.suffixes]
    opener = _OPENERS.get(suffixes[-1]) if suffixes else None
    kind = suffixes[-2] if opener and len(suffixes) > 1 else (suffixes or [""])[-1]
    if kind not in _FORMATS:
        raise DataError(
            f"{path} must be a {', '.join(_FORMATS)} file, also with .xz or .gz behind it."
        )
    try:
        check_regular(path)
        "".encode(encoding)
        with (opener or open)(path, "rt", encoding=_with_mark(encoding), newline="") as file:
            rows = list(_READERS[kind](file, path, text))
    except FileNotFoundError:
        raise DataError(f"No such file: {path}.") from None
    except LookupError:
        raise DataError(f"`encoding` {encoding!r} is unknown; the usual one is utf-8.") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not in {encoding}: byte 0x{error.object[error.start]:02x} "
            f"({error.reason}). Save it as UTF-8, or name its encoding by `encoding`, such as "
            "latin-1."
        ) from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None
    if not rows:
        raise DataError(f"{path} has no rows.")
    names = list(rows[0][1])
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for number, row in rows:
        if row.keys() != columns.keys():
            raise DataError(
                f"{path}, line {number} has the keys {listed(list(row))}; the first line has "
                f"{listed(names)}. Give each line the same keys, with null for a missing value."
            )
        for name, cell in row.items():
            columns[name].append(cell)
    return Table(columns, [number for number, _ in rows], str(path))


def _with_mark(encoding: str) -> str:
    """Skip the byte-order mark that spreadsheets write."""
    return "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


def _separator(first: str) -> str:
    """Return what separates the columns of a ``.csv``, by its first line.

    Spreadsheets write semicolons in countries whose decimals have a comma.
    """
    return next((each for each in ",;\t" if each in first), ",")


def _csv(file: IO[str], path: Path, _: str) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(_MOST_CHARACTERS)
    first = file.readline()
    separator = "\t" if ".tsv" in path.suffixes else _separator(first)
    reader = csv.reader(chain([first] if first else [], file), delimiter=separator, strict=True)
    names = [name.strip() for name in next(reader, [])]
    if len(set(names)) < len(names):
        raise DataError(f"{path} has two columns of one name: {listed(names)}.")
    for cells in reader:
        if not cells:
            continue  # a blank line
        if len(cells) != len(names):
            raise DataError(
                f"{path}, line {reader.line_num} has {len(cells)} cells; expected {len(names)}: "
                f"{listed(names)}. A text with a comma needs quotation marks."
            )
        yield reader.line_num, dict(zip(names, cells, strict=True))


def _jsonl(file: IO[str], path: Path, _: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number} is not JSON: {error}.") from None
        if not isinstance(row, dict):
            raise DataError(
                f"{path}, line {number} is a JSON {type(row).__name__}; expected an object such as "
                '{"text": "...", "label": "..."}.'
            )
        yield number, row


def _txt(file: IO[str], _: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, start=1):
        yield number, {text: line.rstrip("\r\n")}


_READERS: dict[str, Any] = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".txt": _txt}
