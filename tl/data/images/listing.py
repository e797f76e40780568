"""Which files below a folder are images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info
from PIL import Image, UnidentifiedImageError

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

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise DataError(f"Cannot read {error.filename}: {error.strerror}.")

    found: list[Path] = []
    seen = {os.path.realpath(folder)}
    for parent, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        below = [(Path(parent, name).is_symlink(), name) for name in folders]
        folders.clear()
        for _, name in sorted(below):  # a folder itself goes before a link to it
            real = os.path.realpath(Path(parent, name))
            if not name.startswith(".") and real not in seen:
                seen.add(real)
                folders.append(name)
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    images: list[Path] = []
    others: list[Path] = []
    for path in sorted(found, key=_parts):
        (images if _is_image(path) else others).append(path)
    return images, others


def list_images(folder: Path) -> list[Path]:
    """List the image files anywhere below ``folder``, sorted by path; see `list_files`."""
    return list_files(folder)[0]


def _parts(path: Path) -> list[str]:
    """Return the sort key of a path: its parts, in one Unicode form."""
    return [composed(part) for part in path.parts]


def log_left_out(paths: Sequence[Path], folder: object, why: str = "are not images") -> None:
    """Log which files below a folder are ignored, the first 20 by name."""
    if paths:
        names = listed([str(path) for path in paths])
        rank_zero_info(f"tl: {folder}: left out {len(paths)} files that {why}: {names}.")


def _is_image(path: Path) -> bool:
    extension = path.suffix.lower()
    if extension in usual_extensions() or extension in _FOREIGN:
        return True
    if path.exists() and not path.is_file():
        return False  # a pipe or a device, which may never end
    try:
        with open_image(path):
            return True
    except UnidentifiedImageError:
        return False
    except Exception:  # noqa: BLE001 - it is to be read, and then named
        return True
