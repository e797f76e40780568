from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from tl.data.images.hashing import FileHashes, Verify
from tl.data.images.manifest import TICK


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files' times lie more than a tick back."""
    honest = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: honest() + 2 * TICK)


def files(folder: Path) -> list[Path]:
    paths = [folder / f"{number}.bin" for number in range(3)]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def read(paths: list[Path], cache: Path | None, verify: Verify = "changed") -> list[bytes]:
    hashes = FileHashes(paths, cache, verify)
    found = [hashes.of(number) for number in range(len(paths))]
    hashes.save()
    return found


def hashed_now(paths: list[Path]) -> list[bytes]:
    return [hashlib.sha256(path.read_bytes()).digest() for path in paths]


def contents_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    honest = Path.read_bytes

    def counted(path: Path) -> bytes:
        if path.suffix == ".bin":
            names.append(path.name)
        return honest(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    return names


@pytest.mark.usefixtures("later")
def test_contents_are_read_once_and_again_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, cache = files(tmp_path), tmp_path / "cache"
    expected = hashed_now(paths)
    names = contents_read(monkeypatch)
    assert read(paths, cache) == expected
    assert names == ["0.bin", "1.bin", "2.bin"]
    names.clear()
    assert read(paths, cache) == expected
    assert names == []
    assert read(paths, cache, "full") == expected
    assert read(paths, None) == expected
    assert len(names) == 6


@pytest.mark.usefixtures("later")
def test_a_change_is_noticed_though_size_and_modification_time_are_restored(
    tmp_path: Path,
) -> None:
    paths, cache = files(tmp_path), tmp_path / "cache"
    read(paths, cache)
    before = paths[1].stat()
    paths[1].write_bytes(b"2.bin")  # as long as before
    os.utime(paths[1], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read(paths, cache) == hashed_now(paths)
    (tmp_path / "new.bin").write_bytes(b"3.bin")
    os.utime(tmp_path / "new.bin", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "new.bin").replace(paths[1])
    assert read(paths, cache) == hashed_now(paths)


def test_fresh_files_are_read_again_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, cache = files(tmp_path), tmp_path / "cache"
    read(paths, cache)
    names = contents_read(monkeypatch)
    read(paths, cache)
    assert names == ["0.bin", "1.bin", "2.bin"]


@pytest.mark.usefixtures("later")
def test_a_file_that_changes_while_it_is_read_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = files(tmp_path)[:1]
    honest = Path.read_bytes

    def written_meanwhile(self: Path) -> bytes:
        content = honest(self)
        path.write_bytes(b"longer than before")
        return content

    hashes = FileHashes([path], tmp_path / "cache", "changed")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", written_meanwhile)
        hashes.of(0)
    assert hashes.manifest.entries == {}


@pytest.mark.usefixtures("later")
def test_a_file_is_checked_once_for_each_decoder(tmp_path: Path) -> None:
    paths, cache = files(tmp_path), tmp_path / "cache"
    checked: list[str] = []
    for decoder in ("a", "a", "b", "b"):
        hashes = FileHashes(paths[:1], cache, "changed", decoder)
        assert hashes.of(0, lambda: checked.append(decoder)) == hashed_now(paths)[0]  # noqa: B023
        hashes.save()
        read(paths, cache)  # which does not forget that
    assert checked == ["a", "b"]


@pytest.mark.usefixtures("later")
def test_a_bad_file_is_checked_again(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError("no image")

    for _ in range(2):
        hashes = FileHashes(files(tmp_path), tmp_path / "cache", "changed", "a")
        with pytest.raises(ValueError, match="no image"):
            hashes.of(0, fail)
        hashes.save()
