"""Hashes of whole files, and the one that a checkpoint carries in itself."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MARK = b"tl-sha256:"
_LENGTH = len(_MARK) + 64
# The last record of a zip archive, which ends with the length of the comment after it.
_END, _END_LENGTH = b"PK\x05\x06", 22
_MIB = 2**20


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal.

    Args:
        path: The file.
    """
    with Path(path).expanduser().open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(archive: memoryview) -> bytes:
    """Return the comment that makes a zip archive carry the SHA-256 of all its other bytes.

    The checksums that zip archives have cover the parts' contents, not their places, names and
    padding. The comment stands at the end of the file, so it comes and goes with it, and readers
    that do not know it skip it.

    Args:
        archive: The whole archive, writable; it is changed to announce the comment.

    Returns:
        What to write after it; nothing where it is no archive or has a comment already.
    """
    end = bytes(archive[-_END_LENGTH:])
    if not end.startswith(_END) or end[-2:] != b"\x00\x00":
        return b""
    archive[-2:] = _LENGTH.to_bytes(2, "little")
    return _MARK + hashlib.sha256(archive).hexdigest().encode()


@dataclass(frozen=True)
class Sums:
    """What one pass over a file's bytes found.

    Attributes:
        sha256: Hash of the whole file.
        intact: Whether its seal fits; ``None`` where it has none.
    """

    sha256: str
    intact: bool | None


def is_sealed(file: BinaryIO) -> bool:
    """Tell if an open file carries a seal; it is left at its beginning."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _LENGTH))
    found = file.read(len(_MARK)) == _MARK
    file.seek(0)
    return found


def is_cut_short(file: BinaryIO) -> bool:
    """Tell if the comment that a zip archive announces is not all there; zip readers do not mind.

    Args:
        file: The open archive; it is left at its beginning.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END_LENGTH - 2**16))
    tail = file.read()
    file.seek(0)
    _, end, rest = tail.rpartition(_END)
    rest = rest[_END_LENGTH - len(_END) - 2 :]
    return not end or int.from_bytes(rest[:2], "little") != len(rest) - 2


def sums(file: BinaryIO) -> Sums:
    """Hash an open file and check its seal, in one pass; it is left at its beginning."""
    left = max(0, file.seek(0, os.SEEK_END) - _LENGTH)
    file.seek(0)
    digest = hashlib.sha256()
    while left and (chunk := file.read(min(left, 4 * _MIB))):
        digest.update(chunk)
        left -= len(chunk)
    body = digest.hexdigest().encode()
    tail = file.read()
    digest.update(tail)
    file.seek(0)
    sealed = tail.startswith(_MARK)
    return Sums(digest.hexdigest(), tail[len(_MARK) :] == body if sealed else None)
