"""Images with their maps as data sets: in memory and cached, or read when they are needed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import torch
from torch import Tensor

from tl.data.cache import read_cache, write_cache
from tl.data.dense.listing import DenseFiles
from tl.data.dense.reading import MapReader, image_size, read_image, read_sample
from tl.data.errors import DataError
from tl.data.images.decoding import decoder_key
from tl.data.images.image_set import progress
from tl.data.images.resident import Batch, ImageDataset, ResidentDataset, single
from tl.reading import check_regular

#: Part of the key of cached maps: raise it whenever they are read in another way than before.
READER_VERSION = 1
#: Target by which samples are split: maps have no class, so all samples are of one.
STRATUM = "all/"  # no folder has such a name
_IMAGE = "image/"
_T = TypeVar("_T")


@dataclass(frozen=True)
class DenseReader:
    """Reads the samples of a split by their number.

    Args:
        files: The files.
        readers: What reads the maps of each folder.
        size: Height and width of all images.
        resize: Whether images of other sizes are resized and cropped to it.
    """

    files: DenseFiles
    readers: Mapping[str, MapReader]
    size: tuple[int, int]
    resize: bool

    def __len__(self) -> int:
        """How many samples."""
        return len(self.files.images)

    def read(self, row: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return an image ``(H, W, 3)`` uint8, and its maps by folder."""
        maps = {name: paths[row] for name, paths in self.files.maps.items()}
        return read_sample(
            self.files.images[row], maps, self.readers, self.size, resize=self.resize
        )

    def hash(self, row: int) -> bytes:
        """Hash the contents of a sample's files."""
        digest = hashlib.sha256()
        for path in (self.files.images[row], *(each[row] for each in self.files.maps.values())):
            try:
                check_regular(path)
                digest.update(hashlib.sha256(path.read_bytes()).digest())
            except (OSError, ValueError) as error:
                raise DataError(f"Cannot read {path}: {error}.") from None
        return digest.digest()

    def key(self) -> str:
        """Name everything besides the files' contents that pixels and maps depend on."""
        readers = [
            (name, each.task.record(), each.void, each.scale, each.resized)
            for name, each in self.readers.items()
        ]
        return f"{READER_VERSION} {decoder_key(self.size, None)} {self.resize} {readers}"

    def layout(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Return shape and type of the image and of each map of the first sample."""
        pixels, targets = self.read(0)
        return {k: (tuple(t.shape), t.dtype) for k, t in {_IMAGE: pixels, **targets}.items()}

    def bytes_needed(self) -> int:
        """Bytes of all samples in memory."""
        found = self.layout().values()
        each = sum(torch.empty(shape, dtype=kind, device="meta").nbytes for shape, kind in found)
        return len(self) * each


def first_size(files: DenseFiles) -> tuple[int, int]:
    """Return height and width of the first image."""
    return image_size(files.images[0])


def load_samples(reader: DenseReader, cache: Path | None, what: str) -> ResidentDataset:
    """Read all samples into memory, or map them from the cache.

    The cache's name is a hash of every file's content and of how it is read.

    Args:
        reader: Reads them.
        cache: Folder of the cache; ``None`` turns it off.
        what: Description for the progress bar.

    Raises:
        DataError: If a file cannot be read or is wrong; names the first.
    """
    count, layout = len(reader), reader.layout()
    digest = hashlib.sha256(reader.key().encode())
    for each in over(reader.hash, count, f"Checking {what}"):
        digest.update(each)
    name = digest.hexdigest()[:32]
    stored = {
        part: cache / f"{name}-{number}.npy" if cache else None
        for number, part in enumerate(layout)
    }
    found = _mapped(stored, layout, count)
    if found is None:
        parts = {part: torch.empty((count, *s), dtype=kind) for part, (s, kind) in layout.items()}

        def fill(row: int) -> None:
            pixels, targets = reader.read(row)
            for part, value in {_IMAGE: pixels, **targets}.items():
                if value.shape != parts[part].shape[1:]:
                    path = reader.files.maps[part][row]
                    raise DataError(
                        f"{path} is of shape {tuple(value.shape)}, the first map of its kind "
                        f"{tuple(parts[part].shape[1:])}."
                    )
                parts[part][row] = value  # in place: a list of all would take as much again

        over(fill, count, f"Decoding {what}")
        for part, path in stored.items():
            if path is not None:
                write_cache(path, parts[part].view(torch.uint8).numpy())
        # the files' pages in the place of memory of our own
        found = _mapped(stored, layout, count) or parts
    targets = {part: values for part, values in found.items() if part != _IMAGE}
    return ResidentDataset(
        found[_IMAGE],
        {**targets, STRATUM: torch.zeros(count, dtype=torch.int64)},
        reader.files.names(),
    )


def _mapped(
    stored: Mapping[str, Path | None],
    layout: Mapping[str, tuple[tuple[int, ...], torch.dtype]],
    count: int,
) -> dict[str, Tensor] | None:
    """Map all parts from the cache; ``None`` if one is not there."""
    found = {}
    for part, path in stored.items():
        shape, kind = layout[part]
        as_bytes = (count, *shape[:-1], shape[-1] * kind.itemsize)
        mapped = None if path is None else read_cache(path, as_bytes)
        if mapped is None:
            return None
        found[part] = mapped.view(kind)
    return found


def stream_samples(reader: DenseReader, what: str) -> StreamedMaps:
    """Read every sample once, so that bad files show before training, and drop it.

    Raises:
        DataError: If a file cannot be read or is wrong; names the first.
    """

    def check(row: int) -> bytes:
        reader.read(row)
        return reader.hash(row)  # from memory: it was just read

    return StreamedMaps(reader, over(check, len(reader), f"Checking {what}"))


class StreamedMaps(ImageDataset):
    """Images and maps that are read when they are needed, by the loader's workers.

    Args:
        reader: Reads them.
        hashes: A hash of the files of each sample.
    """

    def __init__(self, reader: DenseReader, hashes: Sequence[bytes]) -> None:
        strata = {STRATUM: torch.zeros(len(reader), dtype=torch.int64)}
        super().__init__(len(reader), strata, reader.files.names())
        self.reader = reader
        self.hashes = hashes
        self.maps: tuple[str, ...] = tuple(reader.readers)

    def only(self, targets: Iterable[str]) -> Self:
        """Return the same images with these maps alone."""
        wanted = tuple(targets)
        same = super().only([name for name in wanted if name not in self.maps])
        same.maps = tuple(name for name in wanted if name in self.maps)
        return same

    def unlabelled(self) -> Self:
        """Return the same images with their positions in the place of maps."""
        same = super().unlabelled()
        same.maps = ()
        return same

    def pixels(self, rows: Tensor) -> Tensor:
        """Read images by row: ``(B, H, W, 3)`` uint8."""
        paths = [self.reader.files.images[row] for row in rows.tolist()]
        return torch.stack([torch.tensor(read_image(path, self.reader.size)) for path in paths])

    def __getitem__(self, positions: int | Tensor) -> Batch:
        """Read one sample by position, or one batch by positions ``(B,)``."""
        if isinstance(positions, int) or not self.maps:
            return super().__getitem__(positions)
        samples = [self.reader.read(row) for row in self.index[positions].tolist()]
        images = torch.stack([pixels for pixels, _ in samples]).permute(0, 3, 1, 2)
        return images, single(
            {name: torch.stack([maps[name] for _, maps in samples]) for name in self.maps}
        )

    def digest(self) -> str:
        """SHA-256 over the files' contents and how they are read, in order."""
        digest = hashlib.sha256(self.reader.key().encode())
        for row in self.index.tolist():
            digest.update(self.hashes[row])
        return digest.hexdigest()


def over(function: Callable[[int], _T], count: int, what: str) -> list[_T]:
    """Apply a function to the numbers of all samples in threads, with a progress bar.

    Raises:
        DataError: If it fails for some: the error of the first, and how many there are.
    """
    bad: dict[int, DataError] = {}

    def guarded(row: int) -> _T | None:
        try:
            return function(row)
        except DataError as error:
            bad[row] = error
            return None

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        found = list(progress(pool.map(guarded, range(count)), count, what))
    if bad:
        first = bad[min(bad)]
        if len(bad) == 1:
            raise first
        raise DataError(f"{first} That is the first of {len(bad)} of {count} samples with errors.")
    return found  # type: ignore[return-value]  # nothing is missing without an error
