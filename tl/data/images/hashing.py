"""Hashes of files' contents, kept from one run to the next by size and times."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lightning.pytorch.utilities import rank_zero_info

from tl.data.cache import write_whole
from tl.data.images.contents import Contents, Stat, stat_of
from tl.reading import check_regular

Verify = Literal["changed", "full"]
#: Raise it whenever the columns change: a manifest of another version is not read.
VERSION = 2
#: Nanoseconds; the coarsest timestamps of a file system in use are those of FAT.
TICK = 2 * 10**9
_STAT = ("size", "modified", "changed", "inode")
#: Decoders that are kept of a file, the latest: folders are read at several sizes.
MOST_DECODERS = 8


class Entry(NamedTuple):
    """What an earlier run found in a file.

    Attributes:
        stat: Size and times of the file then.
        hashed: When it was read, in nanoseconds.
        sha256: Hash of its content, hexadecimal.
        decoded: Keys of the decoders that have read the whole image, the latest last.
    """

    stat: Stat
    hashed: int
    sha256: str
    decoded: tuple[str, ...] = ()

    def holds(self, now: Stat) -> bool:
        """Return whether the file is still the one that was hashed.

        Size, times and inode must be as they were. The change time is the kernel's: restoring a
        modification time does not hide a change. A file that was changed less than a tick before
        it was hashed may have been changed again within that tick, so it does not count as known. A
        modification time in the future was set by hand: a change would have set another one.
        """
        settled = now.changed + TICK <= self.hashed and abs(self.hashed - now.modified) >= TICK
        return self.stat == now and settled


class Manifest:
    """The entries of the files below one folder, by path relative to it.

    Args:
        folder: The folder.
        stored: Where the manifest is kept; ``None`` keeps nothing.
    """

    def __init__(self, folder: str, stored: Path | None) -> None:
        self.folder = folder
        self.stored = stored
        self.entries: dict[str, Entry] = {}
        self._changed = False
        if stored is not None:
            self._read(stored)

    @classmethod
    def of(cls, paths: Sequence[str], cache: Path | None) -> Manifest:
        """Return the manifest of the folder that holds all these files.

        Args:
            paths: Absolute paths, at least one.
            cache: Folder of manifests and decoded images; ``None`` keeps nothing.
        """
        folder = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:32]
        return cls(folder, cache / f"{name}.manifest" if cache else None)

    def entry(self, path: str) -> Entry | None:
        """Return the entry of a file, whether it still holds or not."""
        return self.entries.get(self._name(path))

    def known(self, path: str, now: Stat) -> Entry | None:
        """Return the entry of a file if it is still the file that was hashed."""
        entry = self.entry(path)
        return entry if entry is not None and entry.holds(now) else None

    def add(self, path: str, entry: Entry) -> None:
        """Enter a file."""
        name = self._name(path)
        if self.entries.get(name) != entry:
            self.entries[name] = entry
            self._changed = True

    def save(self) -> None:
        """Write the manifest if it has changed, complete or not at all; drop vanished files.

        Without room or permission nothing is kept: a line says that the next run hashes again.
        """
        if self.stored is None or not self._changed:
            return
        here = {n: e for n, e in self.entries.items() if os.path.lexists(self._path(n))}
        body = json.dumps(_columns(here), separators=(",", ":")).encode()
        head = json.dumps({"version": VERSION, "sha256": hashlib.sha256(body).hexdigest()})
        content = head.encode() + b"\n" + body
        if reason := write_whole(self.stored, lambda file: file.write(content)):
            rank_zero_info(
                f"tl: the next run hashes files below {self.folder} again: cannot write the "
                f"manifest {self.stored} ({reason})."
            )
        self._changed = False

    def _name(self, path: str) -> str:
        return path[len(self.folder) :].lstrip("/")

    def _path(self, name: str) -> str:
        return os.path.join(self.folder, name)  # noqa: PTH118 - 100,000 of them

    def _read(self, stored: Path) -> None:
        try:
            check_regular(stored)
            head, _, body = stored.read_bytes().partition(b"\n")
            said = json.loads(head)
            if said["version"] != VERSION:
                self._explain(f"is of version {said['version']}, this is version {VERSION}")
                return
            intact = said["sha256"] == hashlib.sha256(body).hexdigest()
            entries = _rows(json.loads(body)) if intact else None
        except (FileNotFoundError, NotADirectoryError):
            pass  # the first run, or no folder: told when it cannot be written
        except OSError as error:
            self._explain(f"cannot be read ({error.strerror})")
        except Exception as error:  # noqa: BLE001 - damaged JSON raises whatever it trips on
            self._explain(f"is damaged ({str(error) or type(error).__name__})")
        else:
            self._take(entries)

    def _take(self, entries: dict[str, Entry] | None) -> None:
        if entries is None:
            self._explain("is damaged (its checksum is wrong)")
            return
        ahead = max((entry.hashed for entry in entries.values()), default=0) - time.time_ns()
        if ahead > 0:
            self._explain(f"was written {ahead / 1e9:.1f} s from now, so the clock went back")
        else:
            self.entries = entries

    def _explain(self, why: str) -> None:
        rank_zero_info(
            f"tl: hashing all files below {self.folder} again: the manifest {self.stored} {why}."
        )


def _columns(entries: dict[str, Entry]) -> dict[str, list[Any]]:
    names = ("path", *_STAT, "hashed", "sha256", "decoded")
    rows = [
        (name, *e.stat, e.hashed, e.sha256, "\n".join(e.decoded)) for name, e in entries.items()
    ]
    columns: Iterable[Iterable[Any]] = zip(*rows, strict=True) if rows else [[]] * len(names)
    return {key: list(column) for key, column in zip(names, columns, strict=True)}


def _rows(columns: dict[str, list[Any]]) -> dict[str, Entry]:
    stats = map(Stat, *(columns[name] for name in _STAT))
    decoded = (tuple(keys.split("\n")) if keys else () for keys in columns["decoded"])
    entries = map(Entry, stats, columns["hashed"], columns["sha256"], decoded)
    return dict(zip(columns["path"], entries, strict=True))


class FileHashes:
    """SHA-256 of the contents of files, by their number.

    A manifest in the cache keeps the hashes with what the file system tells of each file. A file
    that looks the same is not read again; see `Entry.holds`.

    Args:
        paths: The files.
        cache: Folder of the manifest; ``None`` reads every file.
        verify: ``changed`` reads the files that do not look the same; ``full`` reads all.
        decoder: Key of the decoder by which the files are to be readable; empty asks for none.

    Attributes:
        contents: What the files held that were hashed.
    """

    def __init__(
        self, paths: Sequence[Path], cache: Path | None, verify: Verify, decoder: str = ""
    ) -> None:
        self.paths = paths
        self._names = [os.path.abspath(path) for path in paths]  # noqa: PTH100 - 100,000 of them
        self.trusts = verify == "changed"
        self.contents = Contents(len(paths))
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
        if entry is not None and (check is None or self.decoder in entry.decoded):
            return self._noted(number, entry)
        if check is not None:
            check()
        if entry is None:
            check_regular(self.paths[number])
            content = self.paths[number].read_bytes()  # from memory, if it was just checked
            entry = Entry(stat, start, hashlib.sha256(content).hexdigest())
        # else it has just changed or is changing, and the next run reads it again
        if entry.holds(stat) and stat_of(path) == stat:
            decoded = self._decoders_of(path, entry)
            if check is not None:
                others = [key for key in decoded if key != self.decoder]
                decoded = (*others, self.decoder)[-MOST_DECODERS:]
            self.manifest.add(path, Entry(entry.stat, entry.hashed, entry.sha256, decoded))
        return self._noted(number, entry)

    def _noted(self, number: int, entry: Entry) -> bytes:
        sha256 = bytes.fromhex(entry.sha256)
        known = self.trusts and entry.holds(entry.stat)
        self.contents.note(number, sha256, entry.stat if known else None)
        return sha256

    def _decoders_of(self, path: str, entry: Entry) -> tuple[str, ...]:
        """Return what has decoded the same content before."""
        before = self.manifest.entry(path)
        return before.decoded if before is not None and before.sha256 == entry.sha256 else ()

    def save(self) -> None:
        """Keep the hashes for the next run."""
        self.manifest.save()
