"""Checkpoints from the web: downloaded, hashed, and from then on files like any other."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from lightning.pytorch.utilities import rank_zero_info
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from tl.data.cache import default_cache
from tl.transfer.errors import CheckpointError
from tl.transfer.hashes import file_sha256

_MIB = 2**20
_LONG = 20 * _MIB  # below, a bar would be gone before it is read
_SHOWN = 16  # digits of the hash in a file's name


def fetch(address: str, timeout: float = 30.0) -> Path:
    """Download a file into the cache unless it is there, and return its path.

    The cache is ``downloads`` in ``$TL_CACHE``, or in ``tl`` of the user's cache folder. The
    name of a file there holds the beginning of its SHA-256, which is checked each time, so that a
    damaged one is downloaded again. What lies in the cache is used without asking the server.

    Args:
        address: ``http://`` or ``https://``; with ``#sha256=<64 digits>`` at its end the content
            must have this hash.
        timeout: Seconds to wait for the server, each time.

    Raises:
        CheckpointError: If it cannot be downloaded whole, or has another hash.
    """
    url, _, fragment = address.partition("#")
    wanted = _wanted_hash(address, fragment)
    folder = default_cache() / "downloads" / hashlib.sha256(url.encode()).hexdigest()[:_SHOWN]
    try:
        with _alone_in(folder):
            found = _stored(folder, wanted)
            return found or _download(url, wanted, folder, timeout)
    except OSError as error:
        raise CheckpointError(
            f"{url}: cannot be kept in {folder} ({error.strerror or error}); set TL_CACHE to a "
            "folder with room."
        ) from None


def _wanted_hash(address: str, fragment: str) -> str | None:
    if not fragment:
        return None
    if not (given := re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)):
        raise CheckpointError(
            f"{address}: what follows `#` must be sha256= and 64 hexadecimal digits."
        )
    return given.group(1).lower()


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes out: one downloads, the others find the file."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _stored(folder: Path, wanted: str | None) -> Path | None:
    """Find the file in the cache, if it is whole and the one that is wanted."""
    for path in sorted(folder.glob(f"*-{'[0-9a-f]' * _SHOWN}*")):
        found = file_sha256(path)
        if path.stem.endswith(f"-{found[:_SHOWN]}") and wanted in (None, found):
            return path
    return None


def _download(url: str, wanted: str | None, folder: Path, timeout: float) -> Path:
    part = folder / ".part"  # one of an earlier process that was killed is overwritten
    digest = hashlib.sha256()
    try:
        with part.open("wb") as file:
            for chunk in _chunks(url, timeout):
                digest.update(chunk)
                file.write(chunk)
        found = digest.hexdigest()
        if wanted not in (None, found):
            raise CheckpointError(
                f"{url}: has the SHA-256 {found}, expected {wanted}; it is another file, or was "
                "changed on its way."
            )
        name = PurePosixPath(
            re.sub(r"[^\w.-]", "_", unquote(urlsplit(url).path).rpartition("/")[2])
        )
        path = folder / f"{name.stem or 'checkpoint'}-{found[:_SHOWN]}{name.suffix}"
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    rank_zero_info(f"tl: downloaded {url} to {path} (sha256 {found}).")
    return path


def _chunks(url: str, timeout: float) -> Iterator[bytes]:
    """Yield the body of an answer, and see that none of it is missing."""
    request = urllib.request.Request(url, headers={"User-Agent": "tl"})  # noqa: S310 - http, https
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 - as above
            length = answer.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            received = 0
            with _bar(total) as progress:
                task = progress.add_task(f"tl: {url}", total=total)
                while chunk := answer.read(_MIB):
                    received += len(chunk)
                    progress.update(task, completed=received)
                    yield chunk
    except urllib.error.HTTPError as error:
        raise CheckpointError(
            f"{url}: the server answers {error.code} {error.reason}; check the address."
        ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise CheckpointError(
            f"{url}: cannot be downloaded ({reason or type(error).__name__}); check the network, "
            "or download the file elsewhere and name its path."
        ) from None
    if total is not None and received != total:
        raise CheckpointError(
            f"{url}: the connection ended after {received:,} of {total:,} bytes; try again."
        )


def _bar(total: int | None) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=total is not None and total < _LONG,
    )
