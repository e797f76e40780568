"""Images with their maps as data sets: in memory and cached, or read when they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

import torch
from torch import Tensor

from tl.data.cache import read_cache, write_cache
from tl.data.dense.reading import read_image
from tl.data.dense.sample_reader import IMAGE, DenseReader
from tl.data.errors import DataError
from tl.data.images.contents import Contents
from tl.data.images.hashing import FileHashes, Verify
from tl.data.images.resident import Batch, ImageDataset, ResidentDataset, single
from tl.data.images.threads import in_threads

#: Target by which samples are split: maps have no class, so all samples are of one.
STRATUM = "all/"  # no folder has such a name
_T = TypeVar("_T")


class SampleHashes:
    """Hashes of the files of samples.

    Args:
        reader: Reads the samples.
        cache: Folder of what earlier runs have found; ``None`` reads every file.
        verify: See `FileHashes`.
    """

    def __init__(self, reader: DenseReader, cache: Path | None, verify: Verify) -> None:
        self.reader = reader
        key = hashlib.sha256(reader.key().encode()).hexdigest()[:16]
        self._columns = 1 + len(reader.files.maps)
        paths = [path for row in range(len(reader)) for path in reader.paths(row)]
        self._files = FileHashes(paths, cache, verify, key)

    def of(self, row: int, *, read: bool = False) -> bytes:
        """Hash the contents of a sample's files.

        Args:
            row: Of the sample.
            read: Whether to read it first, unless it is known to be right.

        Raises:
            DataError: If a file cannot be read, or is wrong.
        """
        reads: list[object] = []

        def once() -> None:
            if not reads:
                reads.append(self.reader.read(row))

        digest = hashlib.sha256()
        for number in range(row * self._columns, (row + 1) * self._columns):
            try:
                digest.update(self._files.of(number, once if read else None))
            except (OSError, ValueError) as error:
                if isinstance(error, DataError):
                    raise
                raise DataError(f"Cannot read {self._files.paths[number]}: {error}.") from None
        return digest.digest()

    @property
    def contents(self) -> Contents:
        """What the files held that were hashed."""
        return self._files.contents

    def save(self) -> None:
        """Keep the hashes for the next run."""
        self._files.save()


def load_samples(
    reader: DenseReader, cache: Path | None, what: str, verify: Verify = "changed"
) -> ResidentDataset:
    """Read all samples into memory, or map them from the cache.

    The cache's name is a hash of every file's content and of how it is read.

    Args:
        reader: Reads them.
        cache: Folder of the cache; ``None`` turns it off.
        what: Description for the progress bar.
        verify: See `FileHashes`.

    Raises:
        DataError: If a file cannot be read, is wrong or changes meanwhile; names the first.
    """
    count, layout = len(reader), reader.layout()
    digest = hashlib.sha256(reader.key().encode())
    hashes = SampleHashes(reader, cache, verify)
    for each in over(hashes.of, count, f"Checking {what}"):
        digest.update(each)
    hashes.save()
    name = digest.hexdigest()[:32]
    stored = {
        part: cache / f"{name}-{number}.npy" if cache else None
        for number, part in enumerate(layout)
    }
    found = _mapped(stored, layout, count)
    if found is None:
        parts = {part: torch.empty((count, *s), dtype=kind) for part, (s, kind) in layout.items()}

        def fill(row: int) -> None:
            pixels, targets = reader.read_unchanged(row, hashes.contents)
            for part, value in {IMAGE: pixels, **targets}.items():
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
    targets = {part: values for part, values in found.items() if part != IMAGE}
    return ResidentDataset(
        found[IMAGE],
        {**targets, STRATUM: torch.zeros(count, dtype=torch.int64)},
        reader.files.names(),
        reader.files.keys(),
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


def stream_samples(
    reader: DenseReader, what: str, cache: Path | None = None, verify: Verify = "changed"
) -> StreamedMaps:
    """Read every sample once, so that bad files show before training, and drop it.

    A sample that an earlier run has read in the same way, and that is unchanged, is not read again.

    Args:
        reader: Reads them.
        what: Description for the progress bar.
        cache: Folder of what earlier runs have found; ``None`` reads every sample.
        verify: See `FileHashes`.

    Raises:
        DataError: If a file cannot be read or is wrong; names the first.
    """
    hashes = SampleHashes(reader, cache, verify)
    found = over(lambda row: hashes.of(row, read=True), len(reader), f"Checking {what}")
    hashes.save()
    return StreamedMaps(reader, found, hashes.contents)


class StreamedMaps(ImageDataset):
    """Images and maps that are read when they are needed, by the loader's workers.

    Args:
        reader: Reads them.
        hashes: A hash of the files of each sample.
        contents: What the files held then.
    """

    def __init__(self, reader: DenseReader, hashes: Sequence[bytes], contents: Contents) -> None:
        strata = {STRATUM: torch.zeros(len(reader), dtype=torch.int64)}
        super().__init__(len(reader), strata, reader.files.names(), reader.files.keys())
        self.reader = reader
        self.hashes, self.contents = hashes, contents
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
        """Read images by row: ``(B, H, W, 3)`` uint8.

        Raises:
            DataError: If one has changed.
        """
        return torch.stack([self._pixels(row) for row in rows.tolist()])

    def _pixels(self, row: int) -> Tensor:
        first, *maps = self.reader.paths(row)
        found = torch.tensor(read_image(first, self.reader.size))
        self.contents.refuse_changed(row * (1 + len(maps)), first)
        return found

    def __getitem__(self, positions: int | Tensor) -> Batch:
        """Read one sample by position, or one batch by positions ``(B,)``."""
        if isinstance(positions, int) or not self.maps:
            return super().__getitem__(positions)
        rows = self.index[positions].tolist()
        samples = [self.reader.read_unchanged(row, self.contents) for row in rows]
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

    found = in_threads(guarded, count, what)
    if bad:
        first = bad[min(bad)]
        if len(bad) == 1:
            raise first
        raise DataError(f"{first} That is the first of {len(bad)} of {count} samples with errors.")
    return found  # type: ignore[return-value]  # nothing is missing without an error
