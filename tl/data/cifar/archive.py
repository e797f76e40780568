"""The official CIFAR archives on disk: find, check, download and unpack."""

from __future__ import annotations

import errno
import fcntl
import http.client
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import calculate_md5, download_url, extract_archive

from tl.data.cache import lock
from tl.data.errors import DataError, listed, one_line
from tl.reading import check_regular

_JUST_BEGUN = 60  # seconds that a process may take to lock its folder
_UNWRITABLE = (errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EDQUOT)


@dataclass(frozen=True)
class CifarArchive:
    """The archive of a data set, and the folder that it unpacks to.

    Downloaded and unpacked files are renamed atomically when complete: an interrupted run leaves
    nothing half-written, and several runs may start at the same time.

    Args:
        official: torchvision's class of the set, with its names and checksums.
        root: Folder of the data sets.
        url: Mirror to download from; the official address by default.
    """

    official: type[CIFAR10]
    root: Path
    url: str | None = None

    @property
    def path(self) -> Path:
        """Path of the archive."""
        return self.root / str(self.official.filename)

    @property
    def folder(self) -> Path:
        """Folder of the unpacked files."""
        return self.root / str(self.official.base_folder)

    @property
    def address(self) -> str:
        """Address of the download."""
        return self.url or str(self.official.url)

    def is_whole(self) -> bool:
        """Return whether the unpacked files exist and are intact.

        Raises:
            DataError: If they cannot be read.
        """
        return self.folder.is_dir() and not self.wrong_members()

    def wrong_members(self) -> str:
        """Return which unpacked files are wrong; empty if all are intact.

        Raises:
            DataError: If they cannot be read.
        """
        try:
            members = dict([*self.official.train_list, *self.official.test_list])
            members[self.official.meta["filename"]] = self.official.meta["md5"]
            missing = [name for name in members if not (self.folder / name).is_file()]
            wrong = [
                name
                for name in members
                if name not in missing and calculate_md5(self.folder / name) != members[name]
            ]
        except FileNotFoundError as error:  # another run has just moved a damaged folder away
            return f"missing: {Path(error.filename).name}"
        except OSError as error:
            raise DataError(f"Cannot read {error.filename}: {error.strerror}.") from error
        parts = [f"missing: {listed(missing)}"] if missing else []
        parts += [f"wrong checksum: {listed(wrong)}"] if wrong else []
        return "; ".join(parts)

    def damage(self) -> str:
        """Return what is wrong with the archive; empty if it is intact or missing.

        Raises:
            DataError: If it cannot be read.
        """
        if not self.path.exists():
            return ""
        check_regular(self.path)
        try:
            if calculate_md5(self.path) == self.official.tgz_md5:
                return ""
        except OSError as error:
            raise DataError(f"Cannot read {self.path}: {error.strerror}.") from error
        return (
            f"{self.path} is truncated or damaged: {self.path.stat().st_size:,} bytes with a wrong "
            f"checksum (expected md5 {self.official.tgz_md5})."
        )

    def unpack(self) -> None:
        """Unpack the verified archive.

        Raises:
            DataError: If `root` cannot be written.
        """
        with self._workshop() as workshop:
            try:
                extract_archive(self.path, workshop)
            except OSError as error:
                raise DataError(f"Cannot unpack {self.path}: {error.strerror or error}.") from error
            self._move_in(workshop)

    def fetch(self) -> str:
        """Download, verify and unpack; return why the download failed, or ``""``.

        Raises:
            DataError: If `root` cannot be written, which is not a failed download.
        """
        before = socket.getdefaulttimeout()
        try:
            with self._workshop() as workshop:
                socket.setdefaulttimeout(30)  # a filtered network would hang
                download_url(self.address, workshop, self.path.name, self.official.tgz_md5)
                socket.setdefaulttimeout(before)
                extract_archive(workshop / self.path.name, workshop)
                self._move_in(workshop)
                (workshop / self.path.name).replace(self.path)
        except DataError:
            raise
        except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno in _UNWRITABLE:
                raise DataError(f"Cannot write to {self.root}: {error.strerror}.") from error
            reason = "its checksum is wrong" if "corrupted" in str(error) else one_line(error)
            return f"{self.address}: {reason}"
        finally:
            socket.setdefaulttimeout(before)
        return ""

    @contextmanager
    def _workshop(self) -> Iterator[Path]:
        """Provide a temporary folder in `root`, so that nothing half-written has a final name."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.root)
            folder = Path(tempfile.mkdtemp(prefix=".unpack-", dir=self.root))
        except (FileExistsError, NotADirectoryError) as error:
            raise DataError(
                f"`root` {self.root} is a file, or inside one; give a folder."
            ) from error
        except OSError as error:
            raise DataError(f"Cannot write to {self.root}: {error.strerror}.") from error
        number = os.open(folder, os.O_RDONLY)
        try:
            lock(number)
            yield folder
        finally:
            os.close(number)
            shutil.rmtree(folder, ignore_errors=True)

    def _move_in(self, workshop: Path) -> None:
        """Rename the unpacked folder to its final name, unless another run was first."""
        with _turn(self.root):
            while True:
                try:
                    (workshop / self.folder.name).rename(self.folder)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                else:
                    return
                if self.is_whole():
                    return
                damaged = workshop / "damaged"
                with suppress(FileNotFoundError):  # without locks, another run has moved it away
                    self.folder.rename(damaged)
                    shutil.rmtree(damaged)


@contextmanager
def _turn(root: Path) -> Iterator[None]:
    """Let one run at a time replace folders: what it finds damaged may not be another's new one."""
    number = os.open(root, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def remove_leftovers(root: Path) -> None:
    """Remove leftovers of killed processes; those of running ones are locked."""
    for folder in root.glob(".unpack-*"):
        with suppress(OSError):
            number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                begun = time.time() - folder.stat().st_mtime < _JUST_BEGUN
                if not begun and lock(number):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(number)
