"""Groups of classes, from a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from tl.counting import counted
from tl.data.errors import DataError, listed
from tl.data.naming import composed
from tl.reading import check_regular

_COLUMNS = (("class", "group"), ("fine_name", "coarse_name"))


def read_groups(path: Path, classes: Sequence[str]) -> Mapping[str, str]:
    """Return the group of each class by name.

    Args:
        path: CSV file with the columns ``class,group`` (or ``fine_name,coarse_name``).
        classes: The classes, each of which needs a group.

    Raises:
        DataError: If the file is unreadable, lacks a column or a class, or assigns a class to two
            groups.
    """
    check_regular(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            pair = next((names for names in _COLUMNS if set(names) <= set(columns)), None)
            if pair is None:
                raise DataError(
                    f"{path} must have the columns class,group, got {','.join(columns) or 'none'}."
                )
            one, other = pair
            cells = [(composed(r[one] or ""), composed(r[other] or "")) for r in reader]
    except OSError as error:
        raise DataError(f"Cannot read `groups` {path}: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"`groups` {path} is not a CSV file in UTF-8: {error}.") from None
    rows = [(name.strip(), group.strip()) for name, group in cells]
    group_of = dict(rows)
    if torn := sorted({str(name) for name, group in rows if group != group_of[name]}):
        raise DataError(f"{path} assigns classes to two groups: {listed(torn)}.")
    if missing := [name for name in classes if not group_of.get(name.strip())]:
        raise DataError(
            f"{path} has no group for {counted(len(missing), 'class', 'classes')}: "
            f"{listed(missing)}."
        )
    return {name: group_of[name.strip()] for name in classes}
