"""Errors of checkpoints, in one line."""

from __future__ import annotations

from collections.abc import Iterable


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says what was found and what to do."""


def listed(names: Iterable[str], limit: int = 5) -> str:
    """Join the first names for a message, escaping unprintable ones.

    Args:
        names: Names, possibly from an untrusted file.
        limit: Number of names to show.
    """
    names = [n if n.isprintable() and n == n.strip() else ascii(n) for n in names]
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def first_line(error: Exception) -> str:
    """Shorten a library's message to one line."""
    line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {listed([line[:100]])}"
