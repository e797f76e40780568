"""Samples of a split of images with maps, read by their number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tl.data.dense.listing import DenseFiles
from tl.data.dense.reading import MapReader, read_sample
from tl.data.images.contents import Contents
from tl.data.images.decoding import decoder_key

#: Part of the key of cached maps: raise it whenever they are read in another way than before.
READER_VERSION = 1
#: The image among the parts of a sample.
IMAGE = "image/"  # no folder has such a name


@dataclass(frozen=True)
class DenseReader:
    """Reads the samples of a split by their number."""

    files: DenseFiles
    readers: Mapping[str, MapReader]  # of the maps in each folder
    size: tuple[int, int]  # height and width of all images
    resize: bool  # whether images of other sizes are resized and cropped to it

    def __len__(self) -> int:
        """How many samples."""
        return len(self.files.images)

    def read(self, row: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return an image ``(H, W, 3)`` uint8, and its maps by folder."""
        maps = {name: paths[row] for name, paths in self.files.maps.items()}
        return read_sample(
            self.files.images[row], maps, self.readers, self.size, resize=self.resize
        )

    def paths(self, row: int) -> list[Path]:
        """Return the files of a sample, the image first."""
        return [self.files.images[row], *(maps[row] for maps in self.files.maps.values())]

    def read_unchanged(self, row: int, contents: Contents) -> tuple[Tensor, dict[str, Tensor]]:
        """Read a sample, whose files must be those that were hashed.

        Args:
            row: Of the sample.
            contents: Of the files of all samples, one sample after the other.

        Raises:
            DataError: If one cannot be read, is wrong or has changed.
        """
        sample, paths = self.read(row), self.paths(row)
        for number, path in enumerate(paths, row * len(paths)):
            contents.refuse_changed(number, path)
        return sample

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
        return {k: (tuple(t.shape), t.dtype) for k, t in {IMAGE: pixels, **targets}.items()}

    def bytes_needed(self) -> int:
        """Bytes of all samples in memory."""
        found = self.layout().values()
        each = sum(torch.empty(shape, dtype=kind, device="meta").nbytes for shape, kind in found)
        return len(self) * each
