"""Decoded images and other files in the cache: complete and verified, or absent."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_log = logging.getLogger(__name__)
Pixels = NDArray[np.uint8]
_KINDS = ("npy", "manifest", "safetensors", "json")  # endings of files in the cache


def default_cache() -> Path:
    """Return the folder for decoded images: ``$TL_CACHE``, or ``tl`` in the user's cache folder."""
    if chosen := os.environ.get("TL_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tl"


def read_cache(stored: Path, shape: tuple[int, ...]) -> Tensor | None:
    """Map an array of bytes into memory; ``None`` if there is no valid one.

    The pages belong to the file: processes share them, and the system can evict and reload them.

    Args:
        stored: The file.
        shape: Required shape; -1 matches any size.
    """
    try:
        if not stored.is_file():
            return None
        with stored.open("rb") as file:
            # copy-on-write: torch needs a writable array, and the file stays unchanged
            images = np.load(stored, mmap_mode="c", allow_pickle=False)
            file.seek(images.offset + images.nbytes)
            checksum = file.read()
    except FileNotFoundError:
        return None
    except Exception as error:  # noqa: BLE001 - a damaged header may raise anything
        _log.warning("Decoding again: the cached images %s are damaged (%s).", stored, error)
        return None
    right = len(images.shape) == len(shape) and all(
        wanted in (-1, found) for wanted, found in zip(shape, images.shape, strict=True)
    )
    if not right or images.dtype != np.uint8:
        _log.warning("Decoding again: the cached images %s have another shape.", stored)
        return None
    if checksum != _checksum(images):
        _log.warning("Decoding again: the cached images %s have a wrong checksum.", stored)
        return None
    return torch.from_numpy(images)


def _checksum(images: Pixels) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(images).data).digest()


def lock(file: IO[Any] | int) -> bool:
    """Lock an open file or folder for this process; ``False`` if another has done so."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # or the file system does not support locks
        return False
    return True


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed processes; those of running ones are locked."""
    for path in (path for kind in _KINDS for path in folder.glob(f".*.{kind}-*.tmp")):
        with suppress(OSError), path.open("r+b") as file:
            if lock(file):
                path.unlink()


def _created(path: Path) -> IO[bytes]:
    """Create a file, and lock it before another process takes it for a leftover."""
    while True:
        file = path.open("xb")
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # it was removed between the two


def write_whole(stored: Path, write: Callable[[IO[bytes]], object]) -> str:
    """Write a file to a temporary name, and rename it: complete or absent.

    Args:
        stored: Its final name.
        write: Writes its content.

    Returns:
        Why the folder does not take it, such as a full disk; empty if it does.
    """
    # a unique name: several processes may write the same file, all correctly
    temporary = stored.with_name(f".{stored.name}-{uuid.uuid4().hex}.tmp")
    try:
        stored.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(stored.parent)
        with _created(temporary) as file:
            write(file)
            file.flush()
            temporary.replace(stored)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)  # even after Ctrl-C
    return ""


def write_cache(stored: Path, images: Pixels) -> None:
    """Write an array and its SHA-256.

    If the folder is full or not writable, warn and leave nothing there.
    """

    def write(file: IO[bytes]) -> None:
        np.save(file, images)
        file.write(_checksum(images))

    if reason := write_whole(stored, write):
        _log.warning(
            "Decoded images are not cached: cannot write %s (%s). Set TL_CACHE to a folder with "
            "free space to decode only once.",
            stored,
            reason,
        )
