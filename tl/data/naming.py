"""Names in one Unicode form: an accented letter has two, and folders from a Mac have the longer."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def composed(name: str) -> str:
    """Return a name in normal form C, where an accented letter is one character."""
    return unicodedata.normalize("NFC", name)


def composed_names(names: Iterable[object]) -> tuple[str, ...]:
    """Return names, as a checkpoint has them, in this form."""
    return tuple(composed(str(name)) for name in names)
