"""Write files completely or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_json(
    path: Path, content: Mapping[str, Any], default: Callable[[object], object] | None = None
) -> None:
    """Write plain types as JSON, completely or not at all.

    Args:
        path: Its final name.
        content: Plain types.
        default: Makes plain types of other ones, which are errors without it.

    Raises:
        OSError: If it cannot be written, naming it.
    """
    write_whole(path, [(json.dumps(content, indent=2, default=default) + "\n").encode()])


def write_whole(path: Path, parts: Sequence[bytes | memoryview]) -> None:
    """Write a file completely or not at all; flush its content before renaming it.

    Args:
        path: Its final name.
        parts: Its content, piece by piece.

    Raises:
        OSError: If it cannot be written, naming the final path. The earlier file is unchanged, and
            no temporary file remains.
    """
    # unique, because other processes may save to the same folder
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            with suppress(OSError):  # some network file systems have no locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
            beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # the folder itself may be missing
            beside.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of processes killed while writing a checkpoint.

    Files of running processes are locked, and stay; so do unrelated files, because the user may
    have chosen the folder.
    """
    left = [*folder.glob(".*.ckpt*.tmp"), *folder.glob(".*.safetensors*.tmp")]
    for path in left:
        with suppress(OSError), path.open("r+b") as file:  # needed for locks on NFS
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def made_folder(path: str | Path) -> Path:
    """Make a folder for results, before the work that they are of.

    Raises:
        ValueError: If it cannot be made or written into.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = None if os.access(folder, os.W_OK | os.X_OK) else "Permission denied"
    except OSError as error:
        reason = error.strerror
    if reason:
        raise ValueError(f"{folder} cannot be a folder for results ({reason}); name another.")
    return folder
