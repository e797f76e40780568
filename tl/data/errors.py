"""The error of everything that can be wrong with data."""

from __future__ import annotations

from collections.abc import Sequence


class DataError(ValueError):
    """Data are missing, damaged, or do not fit what was asked for."""


def one_line(error: Exception) -> str:
    """Message of an error, or its type where it has none, without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def listed(names: Sequence[str], most: int = 20) -> str:
    """Join names for a message: the first `most`, then a count of the rest.

    What a terminal would not show is escaped, also spaces around a name.
    """
    shown = ", ".join(
        name if name.isprintable() and name == name.strip() else ascii(name)
        for name in names[:most]
    )
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
