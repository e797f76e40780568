"""Decoded images on disk: whole and right, or not there."""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_log = logging.getLogger(__name__)
Pixels = NDArray[np.uint8]


def default_cache() -> Path:
    """Folder for decoded images: ``$TL_CACHE``, else ``tl`` in the user's cache folder."""
    if chosen := os.environ.get("TL_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tl"


def read_cache(stored: Path, shape: tuple[int, ...]) -> Tensor | None:
    """Images of this shape, or ``None`` where there are none that can be trusted."""
    try:
        with stored.open("rb") as file:
            images = np.load(file, allow_pickle=False)
            checksum = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, EOFError) as error:
        _log.warning("Decoding again: the cached images %s are damaged (%s).", stored, error)
        return None
    if images.shape != shape or images.dtype != np.uint8:
        _log.warning("Decoding again: the cached images %s have another shape.", stored)
        return None
    if checksum != _checksum(images):
        _log.warning("Decoding again: the cached images %s have a wrong checksum.", stored)
        return None
    return torch.from_numpy(images)


def _checksum(images: Pixels) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(images).data).digest()


def write_cache(stored: Path, images: Pixels) -> None:
    """Write the array and its SHA-256 beside the final name, and rename: whole or absent.

    A folder without room or permission is said in a warning, and nothing is left there.
    """
    # a name of its own: several processes may write the same images, and all are right
    temporary = stored.with_name(f".{stored.name}-{uuid.uuid4().hex}.tmp")
    try:
        stored.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            np.save(file, images)
            file.write(_checksum(images))
        temporary.replace(stored)
    except OSError as error:
        _log.warning(
            "Decoded images are not cached: cannot write %s (%s). Set TL_CACHE to a folder with "
            "room to decode only once.",
            stored,
            error.strerror or error,
        )
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)  # also after Ctrl-C
