"""The error for all problems with data."""

from __future__ import annotations

from collections.abc import Sequence


class DataError(ValueError):
    """Data are missing, damaged, or do not match the settings."""


def one_line(error: Exception) -> str:
    """Return the message of an error in one line, or its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def listed(names: Sequence[str], most: int = 20) -> str:
    """Join names for a message: the first `most`, then a count of the rest.

    Unprintable characters are escaped, and so are names with surrounding spaces.
    """
    shown = ", ".join(
        name if name.isprintable() and name == name.strip() else ascii(name)
        for name in names[:most]
    )
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
