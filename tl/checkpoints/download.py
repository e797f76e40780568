"""Checkpoints from the web: downloaded, hashed, then treated like local files."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from lightning.pytorch.utilities import rank_zero_info
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from tl.checkpoints.errors import CheckpointError
from tl.checkpoints.hashes import file_sha256
from tl.data.cache import default_cache

_MIB = 2**20
_LONG = 20 * _MIB  # smaller files need no progress bar
_SHOWN = 16  # digits of the hash in a file's name
_SLOWEST = 1024  # bytes a second, averaged over `timeout` seconds


def fetch(address: str, timeout: float = 30.0) -> Path:
    """Download a file into the cache, unless it is there, and return its path.

    The cache is ``downloads`` in ``$TL_CACHE``, or in ``tl`` of the user's cache folder. A cached
    file's name contains the beginning of its SHA-256, which is checked on every use, so that a
    damaged file is downloaded again. Cached files are used without contacting the server.

    Args:
        address: ``http://`` or ``https://``; with ``#sha256=<64 digits>`` appended, the content
            must have this hash.
        timeout: Seconds to wait for each response. A server that sends fewer than 1,024 bytes a
            second on average over this time is abandoned.

    Raises:
        CheckpointError: If the download fails or is incomplete, is a web page, or has another hash.
    """
    url, _, fragment = address.partition("#")
    wanted = _wanted_hash(address, fragment)
    folder = default_cache() / "downloads" / hashlib.sha256(url.encode()).hexdigest()[:_SHOWN]
    try:
        with _alone_in(folder, url):
            found = _stored(folder, wanted)
            return found or _download(url, wanted, folder, timeout)
    except OSError as error:
        raise CheckpointError(
            f"{url}: cannot be stored in {folder} ({error.strerror or error}); set TL_CACHE to a "
            "folder with free space."
        ) from None


def _wanted_hash(address: str, fragment: str) -> str | None:
    if not fragment:
        return None
    if not (given := re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)):
        raise CheckpointError(
            f"{address}: `#` must be followed by sha256= and 64 hexadecimal digits."
        )
    return given.group(1).lower()


@contextmanager
def _alone_in(folder: Path, url: str) -> Iterator[None]:
    """Let one process download while the others wait, log it, and then find the file."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            rank_zero_info(f"tl: waiting for another process to download {url}.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follow redirects to http and https addresses only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: Any,  # noqa: ANN401
        code: int,
        msg: str,
        headers: Any,  # noqa: ANN401
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise CheckpointError(
                f"{req.full_url}: the server redirects to {newurl!r}; only http:// and https:// "
                "addresses are followed."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _stored(folder: Path, wanted: str | None) -> Path | None:
    """Find the file in the cache, if it is intact and has the wanted hash."""
    for path in sorted(folder.glob(f"*-{'[0-9a-f]' * _SHOWN}*")):
        found = file_sha256(path)
        if path.stem.endswith(f"-{found[:_SHOWN]}") and wanted in (None, found):
            return path
    return None


def _download(url: str, wanted: str | None, folder: Path, timeout: float) -> Path:
    part = folder / ".part"  # overwrites that of a killed process
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
                "altered in transit."
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
        opener = urllib.request.build_opener(_WebOnly)
        with opener.open(request, timeout=timeout) as answer:
            length = answer.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            received, begun, since = 0, time.monotonic(), 0
            with _bar(total) as progress:
                task = progress.add_task(f"tl: {url}", total=total)
                while chunk := answer.read1(_MIB):
                    if not received and chunk.lstrip()[:1] == b"<":
                        raise CheckpointError(
                            f"{url}: the server sent an HTML or XML page instead of a checkpoint; "
                            "check the address."
                        )
                    received += len(chunk)
                    waited = time.monotonic() - begun
                    if waited > timeout:
                        if received - since < _SLOWEST * waited:
                            raise CheckpointError(
                                f"{url}: the server sent {received - since:,} bytes in "
                                f"{waited:.0f} seconds; try again later, or download the file "
                                "elsewhere and name its path."
                            )
                        begun, since = time.monotonic(), received
                    progress.update(task, completed=received)
                    yield chunk
    except urllib.error.HTTPError as error:
        raise CheckpointError(
            f"{url}: the server responded {error.code} {error.reason}; check the address."
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
