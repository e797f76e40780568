"""Columns of a table as targets: classes, numbers, or several labels."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from tl.counting import counted
from tl.data.errors import DataError, listed
from tl.data.naming import composed
from tl.data.text.table import Table
from tl.tasks import Classification, Regression, Task
from tl.tasks.class_targets import MISSING

Kind = Literal["class", "number", "labels"]
_SEPARATOR = ";"  # between the labels of a cell of a csv file
_NUMBER = re.compile(r"[+-]?\d*\.?\d+")


def target_kinds(given: str | Sequence[str] | Mapping[str, str] | None) -> dict[str, Kind]:
    """Return the kind of target by column; ``class`` for columns without a kind.

    Raises:
        ValueError: If a kind is unknown.
    """
    if given is None:
        return {}
    names = [given] if isinstance(given, str) else given
    kinds = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names, "class")
    for column, kind in kinds.items():
        if kind not in get_args(Kind):
            raise ValueError(
                f"`targets[{column!r}]` must be one of {', '.join(get_args(Kind))}, got {kind!r}."
            )
    return kinds  # type: ignore[return-value]  # checked above


def make_task(name: str, kind: Kind, classes: Sequence[str], target: str | None) -> Task:
    """Return the task of a column.

    Raises:
        DataError: If it has fewer than two classes.
    """
    if kind == "number":
        return Regression(name, target=target)
    if len(classes) < 2:  # noqa: PLR2004 - a classification has two sides at least
        raise DataError(
            f"The target {target or name!r} has {counted(len(classes), 'class', 'classes')} in the "
            f"training split ({listed(classes) or 'none'}); a classification needs at least 2."
        )
    return Classification(name, len(classes), target=target, multi_label=kind == "labels")


def find_class_names(table: Table, column: str, kind: Kind) -> tuple[str, ...]:
    """Return the class names of a column in the order of the labels; empty for numbers.

    Raises:
        DataError: If a cell holds several classes where one is expected.
    """
    if kind == "number":
        return ()
    cells = table.column(column, "targets")
    for row, cell in enumerate(cells):
        if kind == "class" and isinstance(cell, list | dict):
            raise DataError(
                f"{table.where(row)} holds a {type(cell).__name__} ({column}) where one class is "
                f"expected; if rows have several, set `targets` to {{{column}: labels}}."
            )
    found = {name for cell in cells for name in _labels(cell, kind)}
    _warn_of_other_kinds(table, column, kind, found)
    return tuple(sorted(found))


def _warn_of_other_kinds(table: Table, column: str, kind: Kind, names: Collection[str]) -> None:
    """Name labels that seem to be several in one, and classes that seem to be numbers."""
    joined = sorted(name for name in names if "|" in name or "," in name)
    if kind == "labels" and joined and not any(_SEPARATOR in str(c) for c in table.columns[column]):
        rank_zero_warn(
            f"{table.path}: {counted(len(joined), 'label')} of the column {column}, such as "
            f"{joined[0]!r}, may hold several; labels are separated by semicolons, and lists of "
            "them (jsonl) need no separator."
        )
    if kind == "class" and names and all(_NUMBER.fullmatch(name) for name in names):
        fractions = [name for name in names if not float(name).is_integer()]
        if fractions:
            rank_zero_warn(
                f"{table.path}: the {counted(len(names), 'number')} of the column {column}, such "
                f"as {min(fractions)}, become a class each; to predict the number, set `targets` "
                f"to {{{column}: number}}."
            )


def read_target(table: Table, column: str, kind: Kind, classes: Sequence[str]) -> Tensor:
    """Return a column as targets, one per row; an empty cell is a missing target.

    Args:
        table: The table.
        column: Name of the column.
        kind: ``class``: ``(N,)`` int64; ``number``: ``(N,)`` float32; ``labels``: ``(N, C)``
            float32 of 0 and 1.
        classes: Class names in the order of the labels.

    Raises:
        DataError: If a cell is not a number, or not one of the classes.
    """
    cells = table.column(column, "targets")
    if kind == "number":
        return torch.tensor([_number(table, row, cell) for row, cell in enumerate(cells)])
    number_of = {name: number for number, name in enumerate(classes)}
    found = [_labels(cell, kind) for cell in cells]
    for row, names in enumerate(found):
        if unknown := [name for name in names if name not in number_of]:
            several = sum(any(n not in number_of for n in each) for each in found)
            raise DataError(
                f"{table.where(row)} has the label {unknown[0]!r} ({column}), which the training "
                f"split lacks; so have {several} of {len(cells)} rows. Its labels are "
                f"{listed(classes)}."
            )
    if kind == "class":
        numbers = [number_of[names[0]] if names else MISSING for names in found]
        return torch.tensor(numbers, dtype=torch.int64)
    target = torch.zeros(len(cells), len(classes))
    for row, (cell, names) in enumerate(zip(cells, found, strict=True)):
        target[row, [number_of[name] for name in names]] = 1.0
        if cell is None:
            target[row] = math.nan  # an empty list or cell says that no label holds
    return target


def _labels(cell: Any, kind: Kind) -> list[str]:  # noqa: ANN401 - whatever JSON holds
    """Return the labels of a cell: at most one if it holds a class."""
    parts = [cell]
    if kind == "labels" and isinstance(cell, list):
        parts = cell
    elif kind == "labels" and isinstance(cell, str):
        parts = cell.split(_SEPARATOR)
    return [name for part in parts if (name := _name(part))]


def _name(part: Any) -> str:  # noqa: ANN401 - as above
    """Return the label that a part of a cell names, or nothing; JSON's 1 and 1.0 are one."""
    if part is None or part != part:  # noqa: PLR0124 - NaN, which JSON of tables may hold
        return ""
    whole = isinstance(part, float) and part.is_integer()
    return composed(str(int(part) if whole else part)).strip()


def _number(table: Table, row: int, cell: Any) -> float:  # noqa: ANN401 - as above
    if cell is None or cell == "":
        return math.nan
    try:
        number = float(cell)
    except (TypeError, ValueError):
        number = math.inf
    if math.isinf(number):
        raise DataError(
            f"{table.where(row)} has {cell!r} where a number is expected; leave a missing one "
            "empty."
        )
    return number
