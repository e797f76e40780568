"""A table with a row per image, and a column that may assign the rows to splits."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from tl.counting import counted
from tl.data.errors import DataError
from tl.data.split import Split
from tl.data.text.table import Table, read_table


def read_image_table(
    path: Path, image: str, column: str | None, paths: Callable[[Sequence[str]], Sequence[Path]]
) -> dict[Split, Table]:
    """Read a table, and check that each row has its own image.

    Args:
        path: The file.
        image: Column of the images.
        column: Column of the splits; ``None`` if the rows are yet to be split.
        paths: Gives the files that cells of `image` name.

    Returns:
        The rows of each split that the column names; without one, all rows for each.

    Raises:
        DataError: If the file cannot be read, a row names no image or that of another row, or a
            split is unknown.
    """
    table = read_table(path)
    cells = [str(cell or "").strip() for cell in table.column(image, "image")]
    for row, cell in enumerate(cells):
        if not cell:
            raise DataError(f"{table.where(row)} names no image ({image}).")
    # the same file by any spelling: absolute, relative, with ..
    files = [os.path.normpath(file.absolute()) for file in paths(cells)]
    if twice := [file for file, count in Counter(files).items() if count > 1]:
        rows = [row for row, file in enumerate(files) if file == twice[0]]
        lines = " and ".join(str(table.lines[row]) for row in rows[:2])
        raise DataError(
            f"{table.path} names {counted(len(twice), 'image')} in more than one row, "
            f"the first {cells[rows[0]]} in lines {lines}; they could train and validate at once. "
            "Keep one row per image; a cell may hold several labels, separated by semicolons."
        )
    if column is None:
        return dict.fromkeys(get_args(Split), table)
    return table.by_split(column, f" ({column}); expected train, val or test.")


def check_there(paths: Sequence[Path], table: Table, *, some: bool) -> None:
    """Refuse a table whose images are elsewhere, which is a setting and not a bad image.

    Args:
        paths: The path of each row.
        table: The rows.
        some: Whether some may be missing, as where bad images are skipped and named.

    Raises:
        DataError: If images are missing; names the first.
    """
    missing = [row for row, path in enumerate(paths) if not path.exists()]
    if not missing or (some and len(missing) < len(paths)):
        return
    raise DataError(
        f"{len(missing)} of {len(paths)} images named in {table.path} do not exist, the first "
        f"{paths[missing[0]]} (line {table.lines[missing[0]]}). Set `folder` to the folder that "
        "the paths start from, or `suffix` to the ending that they lack."
    )
