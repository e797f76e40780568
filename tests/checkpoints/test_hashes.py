from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import torch

from tl.checkpoints.hashes import file_sha256, is_cut_short, is_sealed, seal, sums


def archive() -> bytearray:
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(1000.0)}, buffer)
    return bytearray(buffer.getvalue())


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_a_sealed_archive_is_read_as_before() -> None:
    content = archive()
    tail = seal(memoryview(content))
    whole = bytes(content) + tail
    assert torch.equal(torch.load(io.BytesIO(whole), weights_only=True)["a"], torch.arange(1000.0))
    with zipfile.ZipFile(io.BytesIO(whole)) as read:
        assert read.comment == tail
        assert read.testzip() is None
    assert is_sealed(io.BytesIO(whole))
    found = sums(io.BytesIO(whole))
    assert found.intact is True
    assert found.sha256 == hashlib.sha256(whole).hexdigest()


def test_a_seal_is_broken_by_any_byte_before_it() -> None:
    content = archive()
    tail = seal(memoryview(content))
    for place in range(0, len(content), 37):
        content[place] ^= 1
        assert sums(io.BytesIO(bytes(content) + tail)).intact is False
        content[place] ^= 1
    assert sums(io.BytesIO(bytes(content) + tail)).intact is True


def test_an_archive_of_which_the_end_is_missing_is_known() -> None:
    plain = bytes(archive())
    content = bytearray(plain)
    sealed = seal(memoryview(content))
    assert not is_cut_short(io.BytesIO(plain))
    assert not is_cut_short(io.BytesIO(bytes(content) + sealed))
    for missing in range(1, len(sealed) + 30):
        assert is_cut_short(io.BytesIO((bytes(content) + sealed)[:-missing])), missing


def test_what_is_no_plain_archive_is_left_alone() -> None:
    for other in (b"", b"abc", b"PK\x03\x04" + bytes(100)):
        view = bytearray(other)
        assert seal(memoryview(view)) == b""
        assert view == other
        assert not is_sealed(io.BytesIO(other))
        assert sums(io.BytesIO(other)).intact is None
        assert sums(io.BytesIO(other)).sha256 == hashlib.sha256(other).hexdigest()
    commented = archive()
    commented[-2:] = b"\x01\x00"
    assert seal(memoryview(commented + b"x")) == b""
