from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
import threading
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from torchvision.datasets import CIFAR10

from tests.data.archives import make_archive, served
from tl.data.cache import lock
from tl.data.cifar import archive as module
from tl.data.cifar.archive import CifarArchive
from tl.data.errors import DataError


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_archive(tmp_path, CIFAR10, monkeypatch)


def archive(root: Path, url: str | None = None) -> CifarArchive:
    return CifarArchive(CIFAR10, root, url)


def answering(*parts: bytes) -> str:
    """Address of a server that gives one answer, then hangs until the test ends."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            connection, _ = server.accept()
            connection.recv(4096)
            for part in parts:
                connection.sendall(part)
            if parts:
                connection.close()
            else:
                time.sleep(3)

    threading.Thread(target=answer, daemon=True).start()
    return f"http://127.0.0.1:{server.getsockname()[1]}/set.tar.gz"


def test_checks_say_what_is_missing_and_what_is_wrong(made: Path) -> None:
    there = archive(made.parent)
    assert there.damage() == ""
    assert not there.is_whole()
    there.unpack()
    assert there.is_whole()
    (there.folder / "data_batch_4").unlink()
    (there.folder / "batches.meta").write_bytes(b"other")
    assert there.wrong_members() == "missing: data_batch_4; wrong checksum: batches.meta"
    made.write_bytes(b"")
    assert "truncated or damaged: 0 bytes" in there.damage()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404: Not Found"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlogin", "its checksum is wrong"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nabc", "its checksum is wrong"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc", "IncompleteRead"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0"),
    ],
    ids=["404", "login page", "short", "cut off", "no web server"],
)
def test_why_a_download_failed(tmp_path: Path, answer: bytes, reason: str) -> None:
    address = answering(answer)
    failure = archive(tmp_path, address).fetch()
    assert failure.startswith(f"{address}: ")
    assert reason in failure
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["http://127.0.0.1:port/x", "http://127.0.0.1:9/a b"])
def test_an_address_that_cannot_be_asked_is_a_failed_download(tmp_path: Path, address: str) -> None:
    assert archive(tmp_path, address).fetch().startswith(f"{address}: ")


def test_a_server_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = socket.setdefaulttimeout
    asked: list[float | None] = []

    def impatient(seconds: float | None) -> None:
        asked.append(seconds)
        patient(0.2 if seconds else seconds)

    monkeypatch.setattr(socket, "setdefaulttimeout", impatient)
    address = answering()
    assert archive(tmp_path, address).fetch() == f"{address}: timed out"
    assert asked == [30, None]  # and what was set before is set again


def test_ctrl_c_in_a_download_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(_: str, folder: Path, name: str, __: str) -> None:
        (folder / name).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "download_url", half)
    with pytest.raises(KeyboardInterrupt):
        archive(tmp_path).fetch()
    assert list(tmp_path.iterdir()) == []
    assert socket.getdefaulttimeout() is None


def test_a_full_disk_is_no_failed_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "download_url", full)
    with pytest.raises(DataError, match=r"^Cannot write to .*: No space left on device\.$"):
        archive(tmp_path).fetch()
    monkeypatch.setattr(module, "extract_archive", full)
    with pytest.raises(DataError, match=r"^Cannot unpack .*: No space left on device\.$"):
        archive(tmp_path).unpack()
    assert list(tmp_path.iterdir()) == []


def _obtain(there: CifarArchive, start: Barrier, found: Queue[str]) -> None:
    start.wait()
    try:
        failure = "" if there.is_whole() else there.fetch()
        found.put(failure or there.wrong_members() or "whole")
    except Exception as error:  # noqa: BLE001 - the parent's test shows it
        found.put(repr(error))


@pytest.mark.parametrize("before", ["nothing", "half a folder"])
def test_several_runs_may_begin_at_the_same_time(made: Path, tmp_path: Path, before: str) -> None:
    context = multiprocessing.get_context("fork")
    root = tmp_path / "shared"
    with served(made.parent) as address:
        for _ in range(3):
            there = archive(root, f"{address}/{made.name}")
            if before == "half a folder":
                there.folder.mkdir(parents=True)
                (there.folder / "data_batch_1").write_bytes(b"half")
            start, found = context.Barrier(3), context.Queue()
            runs = [context.Process(target=_obtain, args=(there, start, found)) for _ in range(3)]
            for run in runs:
                run.start()
            assert [found.get(timeout=300) for _ in runs] == ["whole"] * 3
            for run in runs:
                run.join()
            assert {path.name for path in root.iterdir()} == {made.name, there.folder.name}
            shutil.rmtree(root)


def test_one_run_never_takes_the_new_folder_of_another_for_the_damaged_one(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = archive(made.parent)
    there.folder.mkdir()
    (there.folder / "data_batch_1").write_bytes(b"half")
    found: list[int] = []

    def second() -> None:
        there.unpack()
        found.append(there.folder.stat().st_ino)

    other = threading.Thread(target=second)
    is_whole = module.CifarArchive.is_whole

    def slow(self: CifarArchive) -> bool:
        whole = is_whole(self)
        if not whole and not other.ident:  # between the first run's look and its move
            other.start()
            other.join(1.0)
        return whole

    monkeypatch.setattr(module.CifarArchive, "is_whole", slow)
    there.unpack()
    other.join()
    assert found == [there.folder.stat().st_ino]
    assert there.is_whole()


def test_the_second_run_leaves_what_the_first_has_unpacked_and_may_be_reading(made: Path) -> None:
    there = archive(made.parent)
    there.unpack()
    first = there.folder.stat().st_ino
    there.unpack()
    assert there.folder.stat().st_ino == first
    (there.folder / "data_batch_3").write_bytes(b"damaged")
    there.unpack()
    assert there.is_whole()


def test_what_a_killed_run_has_unpacked_half_is_removed(tmp_path: Path) -> None:
    left, living, fresh = (tmp_path / f".unpack-{name}" for name in ("left", "living", "fresh"))
    for folder in (left, living, fresh):
        folder.mkdir()
        (folder / "part").touch()
    for folder in (left, living):
        os.utime(folder, (0, 0))
    number = os.open(living, os.O_RDONLY)
    assert lock(number)
    module.remove_leftovers(tmp_path)
    os.close(number)
    assert [folder.exists() for folder in (left, living, fresh)] == [False, True, True]
