"""Counts in words: ``1 image``, ``2,000 images``."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun.

    Args:
        number: The count.
        noun: What is counted, in the singular.
        plural: Its plural; by default with an ``s``.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
