"""Where a checkpoint is: a path, an address, or a folder that holds one."""

import difflib
import re
from pathlib import Path

from tl.checkpoints.errors import CheckpointError, listed

_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")


def local_file(path: str | Path) -> Path:
    """Return a path unchanged; download an address and return the file.

    Args:
        path: A path, or an ``http://`` or ``https://`` address.

    Raises:
        CheckpointError: If it cannot be downloaded.
    """
    # a Path collapses two slashes into one
    if address := re.match(r"(https?):/+(.+)", str(path)):
        from tl.checkpoints.download import fetch  # noqa: PLC0415 - rarely needed

        return fetch("://".join(address.groups()))
    return Path(path).expanduser()


def weights_file(path: str | Path) -> Path:
    """Return the weights file of a path: itself, or the weights in a Hugging Face folder.

    Args:
        path: A file, an address, or a folder with ``config.json`` and ``model.safetensors`` or
            ``pytorch_model.bin``.
    """
    path = local_file(path)
    if (path / "config.json").is_file():
        for name in ("model.safetensors", "pytorch_model.bin"):
            if (path / name).is_file():
                return path / name
    return path


def check_file(path: Path) -> None:
    """Refuse anything but a file with content, saying what is there instead.

    Raises:
        CheckpointError: If it is not one.
    """
    try:
        if path.is_dir():
            below = [f"checkpoints/{name}" for name in _checkpoints_in(path / "checkpoints")]
            found = listed(_checkpoints_in(path) + below)
            raise CheckpointError(
                f"{path}: is a folder; name a checkpoint in it" + (f": {found}." if found else ".")
            )
        if not path.exists():
            raise CheckpointError(f"{path}: no such file; {_nearby(path)}")
        if not path.is_file():
            raise CheckpointError(f"{path}: is not a regular file; name a checkpoint.")
        if path.stat().st_size == 0:
            raise CheckpointError(
                f"{path}: is empty: its writing was interrupted; use another one."
            )
    except PermissionError:
        raise CheckpointError(f"{path}: no permission to access it.") from None


def _nearby(path: Path) -> str:
    """Describe what is where the file should be."""
    if ":/" in str(path):
        return "only http:// and https:// addresses are supported; download the file first."
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist either."
    names = _checkpoints_in(path.parent)
    if path.suffix not in _SUFFIXES:  # the folder of a run, misspelt
        folders = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
        if close := difflib.get_close_matches(path.name, folders, n=1):
            return f"did you mean {path.parent / close[0]}?"
    if close := difflib.get_close_matches(path.name, names, n=3):
        return f"did you mean {' or '.join(close)}?"
    return f"that folder has {listed(names) or 'no checkpoint'}."


def _checkpoints_in(folder: Path) -> list[str]:
    """List the names of the checkpoints in a folder, not below it."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if entry.suffix in _SUFFIXES)
