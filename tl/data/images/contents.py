"""What files held when a run hashed them, to notice those that change afterwards."""

from __future__ import annotations

import hashlib
import os
from array import array
from pathlib import Path
from typing import NamedTuple

from tl.data.errors import DataError

#: End of each message about files that change.
START_AGAIN = "Start the run again when nothing writes to its data any more."


class Stat(NamedTuple):
    """What the file system tells of a file without reading it; times in nanoseconds."""

    size: int
    modified: int
    changed: int
    inode: int  # of another file that has come to this path, in a folder that was renamed


def stat_of(path: str | Path) -> Stat:
    """Return size, times and inode of a file.

    Raises:
        OSError: If there is none.
    """
    found = os.stat(path)  # noqa: PTH116 - 100,000 of them
    return Stat(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


class Contents:
    """SHA-256 of files by their number, with what the file system told of them then.

    Args:
        count: Number of files.
    """

    def __init__(self, count: int) -> None:
        self.hashes = [b""] * count
        self._stats = array("q", bytes(8 * count))  # a tuple of each would take 200 bytes

    def note(self, number: int, sha256: bytes, stat: Stat | None) -> None:
        """Note what a file holds.

        Args:
            number: Of the file.
            sha256: Hash of its content.
            stat: What tells it from a changed one; ``None`` if its content alone does.
        """
        self.hashes[number] = sha256
        self._stats[number] = 0 if stat is None else hash(stat)

    def changed(self, number: int, path: Path) -> bool:
        """Return whether a file has gone, or holds something else than when it was hashed.

        A file that does not look the same is read: a new link to it changes its times alone.
        """
        try:
            if self._stats[number] == hash(stat_of(path)):
                return False
            return hashlib.sha256(path.read_bytes()).digest() != self.hashes[number]
        except OSError:
            return True

    def refuse_changed(self, number: int, path: Path) -> None:
        """Check that a file is the one that was hashed.

        Raises:
            DataError: If it has changed.
        """
        if self.changed(number, path):
            raise DataError(f"{path} changed after this run had hashed it. {START_AGAIN}")
