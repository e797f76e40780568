"""Files from a server on this machine: whole, right, or not there."""

from __future__ import annotations

import fcntl
import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import Answers, serving
from tl.checkpoints.download import fetch
from tl.checkpoints.errors import CheckpointError

BODY = bytes(range(256)) * 5000  # more than one piece
SHA256 = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as answers:
        answers.bodies["/runs/best.ckpt"] = BODY
        yield answers


def refusal(address: str, timeout: float = 30) -> str:
    with pytest.raises(CheckpointError) as caught:
        fetch(address, timeout)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(address.partition("#")[0])
    return message


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_is_downloaded_once(server: Answers, tmp_path: Path) -> None:
    address = f"{server.address}/runs/best.ckpt"
    path = fetch(address)
    assert path.read_bytes() == BODY
    assert path.name == f"best-{SHA256[:16]}.ckpt"
    assert path.is_relative_to(tmp_path / "cache" / "downloads")
    assert fetch(address) == path
    assert fetch(f"{address}#sha256={SHA256.upper()}") == path
    assert server.asked == ["/runs/best.ckpt"]
    assert files(tmp_path / "cache") == [".lock", path.name]
    # of the same name elsewhere, it is another file
    assert fetch(f"{address}?version=2").parent != path.parent


def test_a_damaged_file_in_the_cache_is_downloaded_again(server: Answers) -> None:
    address = f"{server.address}/runs/best.ckpt"
    path = fetch(address)
    path.write_bytes(BODY[:-1])
    assert fetch(address).read_bytes() == BODY


def test_another_hash_is_refused_and_not_kept(server: Answers, tmp_path: Path) -> None:
    said = refusal(f"{server.address}/runs/best.ckpt#sha256={'0' * 64}")
    assert f"has the SHA-256 {SHA256}, expected 0000" in said
    assert files(tmp_path / "cache") == [".lock"]
    with pytest.raises(CheckpointError, match="64 hexadecimal digits"):
        fetch(f"{server.address}/runs/best.ckpt#sha256=12")


def test_what_the_server_has_not_is_said(server: Answers) -> None:
    assert "the server responded 404" in refusal(f"{server.address}/none.ckpt")


def test_a_body_that_ends_early_is_refused_and_not_kept(server: Answers, tmp_path: Path) -> None:
    server.missing_bytes = 1
    said = refusal(f"{server.address}/runs/best.ckpt")
    assert f"ended after {len(BODY) - 1:,} of {len(BODY):,} bytes" in said
    assert files(tmp_path / "cache") == [".lock"]
    server.missing_bytes = 0
    assert fetch(f"{server.address}/runs/best.ckpt").read_bytes() == BODY


def test_no_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = refusal(f"http://127.0.0.1:{port}/a.ckpt")
    assert "check the network, or download the file elsewhere" in said


def test_a_server_that_keeps_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        said = refusal(f"http://127.0.0.1:{deaf.getsockname()[1]}/a.ckpt", timeout=0.2)
    assert "timed out" in said


def test_a_cache_that_cannot_be_written_is_said(
    server: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "file"))
    assert "set TL_CACHE to a folder with free space" in refusal(f"{server.address}/runs/best.ckpt")


def test_a_server_that_trickles_is_given_up(server: Answers, tmp_path: Path) -> None:
    server.pause = 0.02
    said = refusal(f"{server.address}/runs/best.ckpt", timeout=1.0)
    assert "bytes in" in said
    assert files(tmp_path / "cache") == [".lock"]


@pytest.mark.parametrize("elsewhere", ["ftp://127.0.0.1/a.ckpt", "file:///etc/hostname"])
def test_redirects_stay_on_the_web(server: Answers, elsewhere: str) -> None:
    server.redirects["/moved.ckpt"] = elsewhere
    said = refusal(f"{server.address}/moved.ckpt")
    assert elsewhere in said
    assert "redirect" in said.lower()


def test_a_redirect_to_the_web_is_followed(server: Answers) -> None:
    server.redirects["/moved.ckpt"] = f"{server.address}/runs/best.ckpt"
    assert fetch(f"{server.address}/moved.ckpt").read_bytes() == BODY


def test_a_page_is_not_kept_as_a_checkpoint(server: Answers, tmp_path: Path) -> None:
    server.bodies["/login"] = b"\n<!doctype html><p>Please sign in</p>"
    assert "an HTML or XML page" in refusal(f"{server.address}/login")
    assert files(tmp_path / "cache") == [".lock"]


def test_who_waits_for_another_s_download_says_so(
    server: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{server.address}/runs/best.ckpt"
    lock = fetch(address).parent / ".lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        said: list[str] = []

        def say(line: str) -> None:
            said.append(line)
            fcntl.flock(held, fcntl.LOCK_UN)  # the other is done

        monkeypatch.setattr("tl.checkpoints.download.rank_zero_info", say)
        assert fetch(address).read_bytes() == BODY
    assert said == [f"tl: waiting for another process to download {address}."]
