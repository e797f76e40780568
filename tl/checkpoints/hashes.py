"""Hashes of whole files, and the checksum that a checkpoint carries."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MARK = b"tl-sha256:"
_LENGTH = len(_MARK) + 64
# The last record of a zip archive, which ends with the length of the following comment.
_END, _END_LENGTH = b"PK\x05\x06", 22
_MIB = 2**20


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with Path(path).expanduser().open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(archive: memoryview) -> bytes:
    """Return a comment for a zip archive with the SHA-256 of all its other bytes.

    The checksums in zip archives cover the parts' contents, not their positions, names and padding.
    The comment is at the end of the file and part of it; other readers skip it.

    Args:
        archive: The whole archive, writable; modified to declare the comment.

    Returns:
        What to append; empty if it is not an archive or already has a comment.
    """
    end = bytes(archive[-_END_LENGTH:])
    if not end.startswith(_END) or end[-2:] != b"\x00\x00":
        return b""
    archive[-2:] = _LENGTH.to_bytes(2, "little")
    return _MARK + hashlib.sha256(archive).hexdigest().encode()


@dataclass(frozen=True)
class Sums:
    """Result of one pass over a file.

    Attributes:
        sha256: Hash of the whole file.
        intact: Whether its seal matches; ``None`` if it has none.
    """

    sha256: str
    intact: bool | None


def is_sealed(file: BinaryIO) -> bool:
    """Return whether an open file carries a seal; rewind it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _LENGTH))
    found = file.read(len(_MARK)) == _MARK
    file.seek(0)
    return found


def is_cut_short(file: BinaryIO) -> bool:
    """Return whether a zip archive's declared comment is truncated, which zip readers ignore.

    Args:
        file: The open archive, rewound afterwards.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END_LENGTH - 2**16))
    tail = file.read()
    file.seek(0)
    _, end, rest = tail.rpartition(_END)
    rest = rest[_END_LENGTH - len(_END) - 2 :]
    return not end or int.from_bytes(rest[:2], "little") != len(rest) - 2


def sums(file: BinaryIO) -> Sums:
    """Hash an open file and check its seal in one pass; rewind it."""
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
