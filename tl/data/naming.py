"""Normalised Unicode names: accented letters have two forms, and macOS uses the longer one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path


def composed(name: str) -> str:
    """Return a name in normal form C, with accented letters as one character."""
    return unicodedata.normalize("NFC", name)


def plain_name(name: str) -> str:
    """Return a name as tasks have them: letters, digits, ``_`` and ``-``, not one of these first.

    It may be empty.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_-]", "_", plain).lstrip("_-")


def name_of_folder(folder: Path) -> str:
    """Return the plain name of the data in a folder: its own, or for ``train`` its parent's.

    A split is not what the data are called, and torch does not allow a head of that name.
    """
    folder = folder.expanduser().resolve()
    return plain_name(folder.parent.name if folder.name == "train" else folder.name)


def name_of_table(path: Path) -> str:
    """Return the name of the data in a table: its own, or for ``train`` its folder's."""
    name = path.name.partition(".")[0]
    return name_of_folder(path.expanduser().resolve().parent) if name == "train" else name


def composed_names(names: Iterable[object]) -> tuple[str, ...]:
    """Return names from a checkpoint in this form."""
    return tuple(composed(str(name)) for name in names)
