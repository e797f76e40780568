"""Image files, checked and decoded in parallel, into memory or on demand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import UnidentifiedImageError
from torch import Tensor

from tl.data.cache import Pixels, read_cache, write_cache
from tl.data.errors import DataError, listed, one_line
from tl.data.images.contents import START_AGAIN, Contents
from tl.data.images.decoding import PixelRange, Size, decode, decoder_key, sides
from tl.data.images.hashing import FileHashes, Verify
from tl.data.images.resident import ImageDataset
from tl.data.images.threads import in_threads

_R = TypeVar("_R")


@dataclass(frozen=True)
class Reading:
    """How image files are read.

    Args:
        size: Pixels of both sides, or height and width.
        pixel_range: See `tl.data.images.decoding.decode`.
        cache: Folder of decoded images, and of what earlier runs have found in the files; ``None``
            decodes every file.
        verify: See `FileHashes`.
    """

    size: Size
    pixel_range: PixelRange | None = None
    cache: Path | None = None
    verify: Verify = "changed"

    @property
    def key(self) -> str:
        """Everything besides a file's content that determines its pixels."""
        return decoder_key(self.size, self.pixel_range)

    def decode(self, path: Path) -> Pixels:
        """Read one image ``(H, W, 3)``."""
        return decode(path, self.size, self.pixel_range)


def load_images(
    paths: Sequence[Path],
    reading: Reading,
    what: str,
    skipped: dict[int, str] | None = None,
    contents: list[bytes] | None = None,
) -> Tensor:
    """Decode files into one ``(N, H, W, 3)`` uint8 tensor, or read them from the cache.

    The cache's name is a hash of every file's content and of the decoder's version, so that a
    changed, added or removed file is decoded again.

    Args:
        paths: The files.
        reading: How they are read.
        what: Description for the progress bar.
        skipped: Receives the reason of each file that cannot be read, by its row, whose pixels are
            then 0. Without it such a file is an error.
        contents: Receives a hash of each file's content; empty for one that cannot be read.

    Raises:
        DataError: If files cannot be read, or change meanwhile, naming the first 20 of them.
    """
    bad: dict[int, str] = {}
    cache, checking = reading.cache, f"Checking {what}"
    hashes = FileHashes(paths, cache, reading.verify)
    keys = _collect(hashes.of, paths, checking, bad)
    hashes.save()
    _refuse(bad, paths, skipped)
    (contents if contents is not None else []).extend(key or b"" for key in keys)
    digest = hashlib.sha256(reading.key.encode())
    for key in keys:
        digest.update(key or b"unreadable")
    name = digest.hexdigest()[:32]
    height, width = sides(reading.size)
    stored = cache / f"{name}-{len(paths)}x{height}.npy" if cache else None
    gaps = cache / f"{name}-gaps.npy" if cache else None
    shape = (len(paths), height, width, 3)
    if stored and not bad and (images := read_cache(stored, shape)) is not None:
        return images
    if gaps and skipped is not None and (missing := read_cache(gaps, shape[:1])) is not None:
        images = read_cache(_without(missing, gaps), shape)
        if images is not None and _fail_again(missing, paths, reading, checking, bad):
            skipped |= bad
            return images
    pixels = _decoded(paths, reading, f"Decoding {what}", bad, hashes.contents)
    _refuse(bad, paths, skipped)
    if bad and gaps:
        missing = torch.zeros(len(paths), dtype=torch.uint8)
        missing[list(bad)] = 1
        write_cache(_without(missing, gaps), pixels)
        write_cache(gaps, missing.numpy())
    elif stored:
        write_cache(stored, pixels)
        if (images := read_cache(stored, shape)) is not None:
            return images  # the file's pages in the place of memory of our own
    return torch.from_numpy(pixels)


def _without(missing: Tensor, gaps: Path) -> Path:
    """Return where the images lie, of which those in `missing` are absent.

    Those who want all images do not find it, nor does a run that misses others.
    """
    absent = hashlib.sha256(missing.numpy().data).hexdigest()[:16]
    return gaps.with_name(f"{gaps.stem}-{absent}.npy")


def _fail_again(
    missing: Tensor, paths: Sequence[Path], reading: Reading, what: str, bad: dict[int, str]
) -> bool:
    """Return whether the files that an earlier run could not read cannot be read now either.

    Their reasons are added to `bad` if so. An error that has passed, such as a lost connection,
    leaves no gap.
    """
    rows = [row for row in missing.nonzero().flatten().tolist() if row not in bad]
    again = [paths[row] for row in rows]
    found: dict[int, str] = {}
    _collect(lambda number: reading.decode(again[number]), again, what, found)
    if len(found) < len(again):
        return False
    bad |= {rows[number]: reason for number, reason in found.items()}
    return True


def _decoded(
    paths: Sequence[Path], reading: Reading, what: str, bad: dict[int, str], contents: Contents
) -> Pixels:
    """Decode the files that are not bad: ``(N, H, W, 3)``; `bad` receives more of them.

    Raises:
        DataError: If files have changed; the cache would hold their pixels under other hashes.
    """
    # filled in place: a list of all would take as much again
    pixels = np.zeros((len(paths), *sides(reading.size), 3), np.uint8)
    changed: list[int] = []

    def fill(row: int) -> None:
        if row not in bad:
            pixels[row] = reading.decode(paths[row])
            if contents.changed(row, paths[row]):
                changed.append(row)

    _collect(fill, paths, what, bad)
    if changed:
        raise DataError(
            f"{len(changed)} of {len(paths)} image files changed after this run had hashed them: "
            f"{listed([str(paths[row]) for row in sorted(changed)])}. {START_AGAIN}"
        )
    return pixels


def check_images(
    paths: Sequence[Path], reading: Reading, what: str, skipped: dict[int, str] | None = None
) -> Contents:
    """Decode every file once and discard the pixels, to find bad files before training.

    A file that an earlier run has decoded in the same way, and that is unchanged, is not decoded
    again. Arguments are those of :func:`load_images`.

    Returns:
        What each file holds; an empty hash for one that cannot be read.

    Raises:
        DataError: If files cannot be read, naming the first 20 of them.
    """
    hashes = FileHashes(paths, reading.cache, reading.verify, reading.key)

    def check(row: int) -> bytes:
        return hashes.of(row, lambda: reading.decode(paths[row]))

    bad: dict[int, str] = {}
    _collect(check, paths, f"Checking {what}", bad)
    hashes.save()
    _refuse(bad, paths, skipped)
    return hashes.contents


class StreamedDataset(ImageDataset):
    """Image files that the loader's workers decode on demand.

    Args:
        paths: The files.
        targets: Labels by name, each ``(N,)`` int64.
        reading: How they are read.
        names: Name of each file for reports.
        contents: What :func:`check_images` gave; without it such data cannot be told from others,
            nor files that change from those that stay.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        targets: Mapping[str, Tensor],
        reading: Reading,
        names: Sequence[str],
        contents: Contents | None = None,
    ) -> None:
        super().__init__(
            len(paths), targets, names, contents.hashes if contents is not None else ()
        )
        self.contents, self.paths, self.reading = contents, paths, reading

    def pixels(self, rows: Tensor) -> Tensor:
        """Decode images by row: ``(B, H, W, 3)`` uint8.

        Raises:
            DataError: If a file cannot be read any more, or has changed.
        """
        return torch.from_numpy(np.stack([self._decoded(row) for row in rows.tolist()]))

    def _decoded(self, row: int) -> Pixels:
        path = self.paths[row]
        try:
            pixels = self.reading.decode(path)
        except Exception as error:
            raise DataError(
                f"{path} can no longer be read ({_reason(error, path)}). "
                "Streamed images must stay in place until the run ends."
            ) from error
        if self.contents is not None:
            self.contents.refuse_changed(row, path)
        return pixels

    def digest(self) -> str:
        """SHA-256 over the files' contents and labels, in order."""
        digest = hashlib.sha256(f"{self.reading.pixel_range or ''}".encode())
        hashes = self.contents.hashes if self.contents is not None else ()
        for row in self.index.tolist():
            digest.update(hashes[row])
        for name, labels in sorted(self.targets.items()):
            digest.update(name.encode())
            digest.update(labels.numpy().data)
        return digest.hexdigest()


def _collect(
    function: Callable[[int], _R], paths: Sequence[Path], what: str, bad: dict[int, str]
) -> list[_R | None]:
    """Apply `function` to the index of every path in threads; `bad` receives the errors."""

    def guarded(row: int) -> _R | None:
        try:
            return function(row)
        except Exception as error:  # noqa: BLE001 - damaged files raise whatever a decoder trips on
            bad[row] = _reason(error, paths[row])
            return None

    return in_threads(guarded, len(paths), what)


def _refuse(
    bad: Mapping[int, str], paths: Sequence[Path], skipped: MutableMapping[int, str] | None
) -> None:
    """Name all files that cannot be read in one error, unless they are to be skipped."""
    if bad and skipped is None:
        raise DataError(
            f"{len(bad)} of {len(paths)} image files cannot be read: {reasons(bad, paths)}. Remove "
            "or replace them; FolderDataModule leaves them out with `on_bad_image: skip`."
        )
    if skipped is not None:
        skipped.update(bad)


def reasons(bad: Mapping[int, str], paths: Sequence[Path]) -> str:
    """Join the first 20 files that cannot be read, each with the reason."""
    return listed(sorted(f"{paths[row]} ({reason})" for row, reason in bad.items()))


def _reason(error: Exception, path: Path) -> str:
    """Why a file cannot be read, without its path."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image that Pillow reads by itself"
    said = one_line(error).removeprefix(f"{path} ").split(str(path))[0].rstrip(" '\"")
    return getattr(error, "strerror", None) or said or type(error).__name__
