"""Which files below a folder are images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info
from PIL import Image, UnidentifiedImageError

from tl.counting import counted
from tl.data.errors import DataError, listed
from tl.data.images.decoding import open_image, raster_formats
from tl.data.naming import composed

# images that Pillow does not read by itself; left out, they would be missing silently
_FOREIGN = frozenset(
    {
        *(".heic", ".heif", ".hif", ".jxl", ".jxr", ".wdp", ".jls", ".exr", ".hdr", ".xcf", ".psb"),
        *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2"),
        *(".srw", ".dcm", ".dicom", ".eps", ".ps", ".ai", ".svg", ".svgz", ".wmf", ".emf"),
    }
)


@cache
def usual_extensions() -> frozenset[str]:
    """Return the extensions of the raster formats that Pillow reads by itself."""
    formats = raster_formats()
    return frozenset(e for e, name in Image.registered_extensions().items() if name in formats)


def list_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Separate image files anywhere below ``folder`` from other files, both sorted by path.

    A file whose name ends like an image is one, and must be readable. Any other counts if Pillow
    identifies its content as a raster image. Hidden files and folders are ignored (notebooks keep
    copies there). Linked folders are followed, each folder once, as links may lead in circles.

    Raises:
        DataError: If a folder cannot be read, whose images would be missing silently.
    """
    found: list[tuple[list[str], str]] = []  # what they are sorted by, and their paths
    top = os.fspath(folder)
    seen, folders = {os.path.realpath(top)}, [top]
    while folders:
        parent = folders.pop()
        below: list[tuple[bool, str, str]] = []
        parts = [composed(part) for part in Path(parent).parts]
        for entry in _entries(parent):
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                below.append((entry.is_symlink(), entry.name, entry.path))
            else:
                found.append(([*parts, composed(entry.name)], entry.path))
        inside: list[str] = []
        for _, _, path in sorted(below):  # a folder itself goes before a link to it
            if (real := os.path.realpath(path)) not in seen:
                seen.add(real)
                inside.append(path)
        folders += reversed(inside)
    images: list[Path] = []
    others: list[Path] = []
    for _, path in sorted(found):
        (images if _is_image(path) else others).append(Path(path))
    return images, others


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads in a circle


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """List a folder; one that has vanished is empty."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"Cannot read {error.filename}: {error.strerror}.") from None


def list_images(folder: Path) -> list[Path]:
    """List the image files anywhere below ``folder``, sorted by path; see `list_files`."""
    return list_files(folder)[0]


def log_left_out(paths: Sequence[Path], folder: object, why: str = "not images") -> None:
    """Log which files below a folder are ignored, the first 20 by name."""
    if paths:
        names = listed([str(path) for path in paths])
        rank_zero_info(f"tl: {folder}: left out {counted(len(paths), 'file')} ({why}): {names}.")


def _is_image(name: str) -> bool:
    extension = os.path.splitext(name)[1].lower()  # noqa: PTH122 - 100,000 of them
    if extension in usual_extensions() or extension in _FOREIGN:
        return True
    path = Path(name)
    if path.exists() and not path.is_file():
        return False  # a pipe or a device, which may never end
    try:
        with open_image(path):
            return True
    except UnidentifiedImageError:
        return False
    except Exception:  # noqa: BLE001 - it is to be read, and then named
        return True
