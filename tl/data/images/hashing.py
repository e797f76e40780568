"""Hashes of image files' contents, read again only where a file has changed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from tl.data.images.manifest import Entry, Manifest, stat_of
from tl.reading import check_regular

Verify = Literal["changed", "full"]


class FileHashes:
    """SHA-256 of the contents of files, by their number.

    A manifest in the cache keeps the hashes with the size and times of each file. A file that looks
    the same is not read again; see `tl.data.images.manifest.Entry.holds`.

    Args:
        paths: The files.
        cache: Folder of the manifest; ``None`` reads every file.
        verify: ``changed`` reads the files whose size or times have changed; ``full`` reads all.
        decoder: Key of the decoder by which the files are to be readable; empty asks for none.
    """

    def __init__(
        self, paths: Sequence[Path], cache: Path | None, verify: Verify, decoder: str = ""
    ) -> None:
        self.paths = paths
        self._names = [os.path.abspath(path) for path in paths]  # noqa: PTH100 - 100,000 of them
        self.trusts = verify == "changed"
        self.decoder = decoder
        self.manifest = Manifest.of(self._names, cache) if paths else Manifest("", None)

    def of(self, number: int, check: Callable[[], object] | None = None) -> bytes:
        """Return the hash of a file; safe to call from several threads.

        Args:
            number: Of the file.
            check: Called, if the file is not known to be readable by the decoder, before it is
                hashed; raises if the file is bad.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is a pipe or a device.
        """
        path = self._names[number]
        start, stat = time.time_ns(), stat_of(path)
        entry = self.manifest.known(path, stat) if self.trusts else None
        if entry is not None and (check is None or entry.decoded == self.decoder):
            return bytes.fromhex(entry.sha256)
        if check is not None:
            check()
        if entry is None:
            check_regular(self.paths[number])
            content = self.paths[number].read_bytes()  # from memory, if it was just checked
            entry = Entry(stat, start, hashlib.sha256(content).hexdigest())
        # else it has just changed or is changing, and the next run reads it again
        if entry.holds(stat) and stat_of(path) == stat:
            kept = self.decoder if check is not None else self._decoder_of(path, entry)
            self.manifest.add(path, Entry(entry.stat, entry.hashed, entry.sha256, kept))
        return bytes.fromhex(entry.sha256)

    def _decoder_of(self, path: str, entry: Entry) -> str:
        """Return what has decoded the same content before."""
        before = self.manifest.entry(path)
        return before.decoded if before is not None and before.sha256 == entry.sha256 else ""

    def save(self) -> None:
        """Keep the hashes for the next run."""
        self.manifest.save()
