"""Rows by column, readable on a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from importlib import import_module
from importlib.util import find_spec
from typing import Any, overload

_SHOWN = 60  # rows; of longer tables the first and the last are


class Table(Sequence[dict[str, Any]]):
    """A small table: a sequence of rows, and columns by name.

    Args:
        rows: Values by column; a row may lack some.
        columns: Their order; by default, as they first occur.

    Attributes:
        columns: Names of the columns.
    """

    def __init__(
        self, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None
    ) -> None:
        self._rows = [dict(row) for row in rows]
        found = dict.fromkeys(name for row in self._rows for name in row)
        self.columns = list(found if columns is None else columns)

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice) -> Table: ...
    @overload
    def __getitem__(self, key: str) -> list[Any]: ...  # a column
    def __getitem__(self, key: int | slice | str) -> Any:
        """Return a row by number, a part by slice, or a column by name.

        Raises:
            KeyError: If there is no such column; lists them.
        """
        if isinstance(key, str):
            if key not in self.columns:
                raise KeyError(f"There is no column {key!r}, only {', '.join(self.columns)}.")
            return [row.get(key) for row in self._rows]
        return Table(self._rows[key], self.columns) if isinstance(key, slice) else self._rows[key]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def to_pandas(self) -> Any:  # noqa: ANN401 - a DataFrame, whose library is optional
        """Return it as a ``pandas.DataFrame``.

        Raises:
            ImportError: If pandas is missing.
        """
        try:
            pandas = import_module("pandas")  # optional
        except ImportError:
            raise ImportError("A DataFrame needs pandas; run `pip install pandas`.") from None
        return pandas.DataFrame(self._rows, columns=self.columns)

    def _cells(self) -> list[list[str]]:
        """Return the rows to show as text, with a row of dots in place of those left out."""
        rows = [[_text(row.get(name)) for name in self.columns] for row in self._rows]
        if len(rows) <= _SHOWN:
            return rows
        half = _SHOWN // 2
        return [*rows[:half], ["..."] * len(self.columns), *rows[-half:]]

    def __repr__(self) -> str:
        """Write it as aligned text, numbers to the right."""
        right = [
            number
            for number, name in enumerate(self.columns)
            if any(isinstance(row.get(name), int | float) for row in self._rows)
        ]
        return "\n".join(aligned([self.columns, *self._cells()], right))

    def markdown(self) -> str:
        """Return it as a table in Markdown."""
        rows = [self.columns, ["---"] * len(self.columns), *self._cells()]
        return "\n".join(
            f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows
        )

    def _repr_html_(self) -> str:
        """Write it for a notebook."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>"
            for row in self._cells()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Return the rows of a table as lines with aligned columns.

    Args:
        rows: Cells by row.
        right: Numbers of the columns that are aligned to the right, from 0.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pads = [str.rjust if number in right else str.ljust for number in range(len(widths))]
    return [
        "  ".join(pad(c, w) for pad, c, w in zip(pads, row, widths, strict=True)).rstrip()
        for row in rows
    ]


def as_frame(table: Table) -> Any:  # noqa: ANN401 - by what is installed
    """Return a table as a ``pandas.DataFrame`` if pandas is installed, otherwise as it is."""
    return table if find_spec("pandas") is None else table.to_pandas()


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
