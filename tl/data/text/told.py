"""What a source of text says of its splits when training starts."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from tl.counting import counted
from tl.data.errors import listed
from tl.data.text.table import Table


def warn_of_copies(name: str, train: Sequence[str], split: str, texts: Sequence[str]) -> None:
    """Warn of evaluated texts that also train: scores on them say little about new ones.

    Args:
        name: Name of the source.
        train: Training texts.
        split: Name of the evaluated split.
        texts: Its texts.
    """
    seen = set(train)
    if copies := [text for text in texts if text in seen]:
        rank_zero_warn(
            f"{name}: {len(copies)} of {len(texts)} {split} texts are also training texts, such as "
            f"{copies[0][:60]!r}; scores on them are too good. Remove the copies."
        )


def with_texts(name: str, table: Table, columns: Sequence[str]) -> Table:
    """Return the rows of a table to predict that have a text in each column; name the others.

    Args:
        name: Name of the source.
        table: The table; one without any such row is returned whole.
        columns: Its columns of texts.
    """
    good = [
        row
        for row in range(len(table))
        if all(isinstance(t := table.columns[c][row], str) and t.strip() for c in columns)
    ]
    if len(good) in (0, len(table)):
        return table
    lines = [str(table.lines[row]) for row in sorted({*range(len(table))} - {*good})]
    rank_zero_info(
        f"tl: {name}: not predicted, {len(lines)} of {len(table)} rows of {table.path} have no "
        f"text: line {listed(lines)}."
    )
    return table.rows(good)


def tell_sizes(name: str, train: Tensor, val: int, pieces: int) -> None:
    """Tell how many texts train and validate.

    Args:
        name: Name of the source.
        train: Number of tokens of each training text ``(N,)``.
        val: Number of validation texts.
        pieces: Word pieces of the tokenizer.
    """
    rank_zero_info(
        f"tl: {name}: {counted(len(train), 'text')} to train "
        f"({counted(int(train.sum()), 'token')}), {val:,} to validate; {pieces} word pieces."
    )


def warn_of_absent(
    name: str, column: str, classes: Sequence[str], target: Tensor, fraction: float
) -> None:
    """Warn of classes without a training text.

    Args:
        name: Name of the source.
        column: The target.
        classes: Class names in the order of the labels.
        target: Labels that train ``(N,)``.
        fraction: The `label_fraction`.
    """
    gone = [known for i, known in enumerate(classes) if not bool((target == i).any())]
    if gone:
        rank_zero_warn(
            f"{name}: {len(gone)} of {len(classes)} classes of {column} have no training text at "
            f"`label_fraction={fraction:g}`: {listed(gone, 5)}."
        )
