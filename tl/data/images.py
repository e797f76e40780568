"""Image files: found, checked, decoded in parallel."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image, ImageOps
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from torch import Tensor

from tl.data.cache import Pixels, read_cache, write_cache
from tl.data.errors import DataError, listed, one_line
from tl.data.resident import ImageDataset

_T = TypeVar("_T")
_R = TypeVar("_R")

EXTENSIONS = frozenset(
    {
        *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
        *(".ppm", ".pgm", ".pbm", ".pnm"),
    }
)


@dataclass(frozen=True)
class ImageFiles:
    """The image files of one split: ``paths[i]`` shows class ``classes[labels[i]]``."""

    folder: Path
    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: Tensor

    def names(self) -> list[str]:
        """Paths relative to the split's folder."""
        return [path.relative_to(self.folder).as_posix() for path in self.paths]


def find_classes(folder: Path) -> tuple[str, ...]:
    """Names of the class folders in ``folder``, sorted.

    Raises:
        DataError: If the folder is missing, unreadable, or holds no class folder.
    """
    try:
        names = sorted(
            entry.name
            for entry in os.scandir(folder)
            if entry.is_dir() and not entry.name.startswith(".")
        )
    except FileNotFoundError:
        raise DataError(
            f"No such folder: {folder}. Expected {folder}/<class>/* with one folder of images per "
            "class; point `root` at the folder above it."
        ) from None
    except OSError as error:
        raise DataError(f"Cannot read {folder}: {error.strerror}.") from None
    if not names:
        raise DataError(
            f"{folder} holds no class folders. Expected {folder}/<class>/* with one folder of "
            "images per class."
        )
    return tuple(names)


def find_images(folder: Path, classes: Sequence[str] | None = None) -> ImageFiles:
    """List ``folder/<class>/*`` in sorted order.

    Args:
        folder: One split.
        classes: The classes expected, in the order of their labels; found by default.

    Raises:
        DataError: If a class folder is empty, unknown, or there is none.
    """
    found = find_classes(folder)
    if classes is None:
        classes = found
    elif unknown := sorted(set(found) - set(classes)):
        raise DataError(
            f"{folder} has class folders that the training split lacks: {listed(unknown)}."
        )
    paths: list[Path] = []
    labels: list[int] = []
    empty: list[str] = []
    for label, name in enumerate(classes):
        files = list_images(folder / name) if name in found else []
        if not files:
            empty.append(name)
        paths += files
        labels += [label] * len(files)
    if empty:
        raise DataError(
            f"{len(empty)} of {len(classes)} classes have no images in {folder}: {listed(empty)}. "
            f"Expected files ending in {', '.join(sorted(EXTENSIONS))}."
        )
    return ImageFiles(folder, tuple(classes), tuple(paths), torch.tensor(labels))


def list_images(folder: Path) -> list[Path]:
    """Image files anywhere below ``folder``, sorted by path.

    Hidden files and folders are left out (notebooks keep copies there), linked subfolders are not
    followed (they may lead in circles); ``folder`` itself may be a link.

    Raises:
        DataError: If a folder cannot be read, whose images would be missing silently.
    """

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise DataError(f"Cannot read {error.filename}: {error.strerror}.")

    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in EXTENSIONS)


def decode(path: Path, size: int) -> Pixels:
    """Read one image as ``(size, size, 3)`` uint8: upright, RGB, resized and centre-cropped."""
    with Image.open(path) as image:
        upright = _as_eight_bits(ImageOps.exif_transpose(image)).convert("RGB")
        if upright.size != (size, size):
            upright = ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC)
        return np.asarray(upright)


def _as_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey, which Pillow would clip at 255 and so show white."""
    # older releases of Pillow give a 16-bit PNG the mode of 32 bits
    if not image.mode.startswith("I;16") and (image.mode, image.format) != ("I", "PNG"):
        return image
    return Image.fromarray((np.asarray(image, np.float32) / 257 + 0.5).astype(np.uint8))


def load_images(paths: Sequence[Path], size: int, cache: Path | None, what: str) -> Tensor:
    """Decode files into one ``(N, size, size, 3)`` uint8 tensor, or read them from the cache.

    The cache's name is a hash of every file's content, so that a changed, added or removed file
    is decoded anew.

    Args:
        paths: The files.
        size: Height and width in pixels.
        cache: Folder of the cache; ``None`` turns it off.
        what: Description for the progress bar.

    Raises:
        DataError: If files cannot be read, naming the first 20 of them.
    """
    keys = _collect(lambda row: _content_hash(paths[row]), paths, f"Checking {what}")
    digest = hashlib.sha256(f"{size}".encode())
    for key in keys:
        digest.update(key)
    stored = cache / f"{digest.hexdigest()[:32]}-{len(paths)}x{size}.npy" if cache else None
    shape = (len(paths), size, size, 3)
    if stored and (images := read_cache(stored, shape)) is not None:
        return images
    pixels = np.empty(shape, np.uint8)  # filled in place: a list of all would take as much again

    def fill(row: int) -> None:
        pixels[row] = decode(paths[row], size)

    _collect(fill, paths, f"Decoding {what}")
    if stored:
        write_cache(stored, pixels)
        if (images := read_cache(stored, shape)) is not None:
            return images  # the file's pages in the place of memory of our own
    return torch.from_numpy(pixels)


def check_images(paths: Sequence[Path], size: int, what: str) -> None:
    """Decode every file once and drop the pixels, so that bad files show before training.

    Raises:
        DataError: If files cannot be read, naming the first 20 of them.
    """

    def check(row: int) -> None:
        decode(paths[row], size)

    _collect(check, paths, f"Checking {what}")


class StreamedDataset(ImageDataset):
    """Image files that are decoded when they are needed, by the loader's workers.

    Args:
        paths: The files.
        targets: Labels by name, each ``(N,)`` int64.
        size: Height and width in pixels.
        names: Name of each file for reports.
    """

    def __init__(
        self, paths: Sequence[Path], targets: Mapping[str, Tensor], size: int, names: Sequence[str]
    ) -> None:
        super().__init__(len(paths), targets, names)
        self.paths = paths
        self.size = size

    def pixels(self, rows: Tensor) -> Tensor:
        """Decode images by row: ``(B, H, W, 3)`` uint8.

        Raises:
            DataError: If a file cannot be read any more.
        """
        return torch.from_numpy(np.stack([self._decoded(self.paths[r]) for r in rows.tolist()]))

    def _decoded(self, path: Path) -> Pixels:
        try:
            return decode(path, self.size)
        except Exception as error:
            raise DataError(
                f"{path} can no longer be read ({_reason(error, path)}). "
                "Streamed images must stay in place until the run ends."
            ) from error

    def digest(self) -> str:
        """SHA-256 over the files' names, sizes and labels, in order (contents are not read)."""
        digest = hashlib.sha256()
        for row in self.index.tolist():
            size = self.paths[row].stat().st_size
            digest.update(f"{self.paths[row].name} {size}\n".encode())
        for name, labels in sorted(self.targets.items()):
            digest.update(name.encode())
            digest.update(labels.numpy().data)
        return digest.hexdigest()


def progress(items: Iterable[_T], total: int, what: str) -> Iterator[_T]:
    """Show a progress bar on standard error while iterating, if it is long enough to wait for.

    Of several processes that do the same, one shows it.
    """
    return iter(
        track(
            items,
            total=total,
            description=escape(what),  # a folder's name may look like markup
            console=Console(stderr=True),
            transient=True,
            disable=total < 200  # noqa: PLR2004 - done before a bar could be read
            or getattr(rank_zero_only, "rank", 0) > 0,
        )
    )


def _content_hash(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _collect(function: Callable[[int], _R], paths: Sequence[Path], what: str) -> list[_R]:
    """Apply `function` to the number of every path in threads; name all that fail in one error."""
    bad: list[str] = []

    def guarded(row: int) -> _R | None:
        try:
            return function(row)
        except Exception as error:  # noqa: BLE001 - damaged files raise whatever a decoder trips on
            bad.append(f"{paths[row]} ({_reason(error, paths[row])})")
            return None

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        results = list(progress(pool.map(guarded, range(len(paths))), len(paths), what))
    if bad:
        raise DataError(
            f"{len(bad)} of {len(paths)} image files cannot be read: {listed(sorted(bad))}. Remove "
            "or replace them."
        )
    return results  # type: ignore[return-value]  # None stands for a failure only, raised above


def _reason(error: Exception, path: Path) -> str:
    """Why a file cannot be read, without its path."""
    said = getattr(error, "strerror", None) or one_line(error).split(str(path))[0].rstrip(" '\"")
    return said or type(error).__name__
