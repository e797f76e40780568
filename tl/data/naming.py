"""Normalised Unicode names: accented letters have two forms, and macOS uses the longer one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def composed(name: str) -> str:
    """Return a name in normal form C, with accented letters as one character."""
    return unicodedata.normalize("NFC", name)


def composed_names(names: Iterable[object]) -> tuple[str, ...]:
    """Return names from a checkpoint in this form."""
    return tuple(composed(str(name)) for name in names)
