from __future__ import annotations

import multiprocessing
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tl.data.cache import default_cache, lock, read_cache, write_cache, write_whole

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    stored = tmp_path / "new" / "images.npy"
    assert read_cache(stored, IMAGES.shape) is None
    write_cache(stored, IMAGES)
    found = read_cache(stored, IMAGES.shape)
    assert found is not None
    assert torch.equal(found, torch.from_numpy(IMAGES))
    assert read_cache(stored, (2, 4, 4, 3)) is None


def test_others_may_read_it_as_far_as_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_cache(tmp_path / "images.npy", IMAGES)
    finally:
        os.umask(before)
    assert (tmp_path / "images.npy").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_stopped_write_leaves_nothing(
    tmp_path: Path, stop: BaseException, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def half(file: Any, images: Any) -> None:
        file.write(images.tobytes()[:10])
        raise stop

    monkeypatch.setattr(np, "save", half)
    if isinstance(stop, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            write_cache(tmp_path / "images.npy", IMAGES)
    else:
        write_cache(tmp_path / "images.npy", IMAGES)
        assert "No space left on device" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "value", [b"{'descr': '|u1', 'shape': (3, 4", b"PK\x03\x04", b"\x93NUMPY\x01\x00\xff\xff", b""]
)
def test_a_file_with_another_beginning_is_not_read(tmp_path: Path, value: bytes) -> None:
    stored = tmp_path / "images.npy"
    write_cache(stored, IMAGES)
    whole = stored.read_bytes()
    for begin in (0, 10):
        stored.write_bytes(whole[:begin] + value + whole[begin + len(value) :])
        found = read_cache(stored, IMAGES.shape)
        assert found is None or torch.equal(found, torch.from_numpy(IMAGES))
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("a.npy", whole)
    assert read_cache(stored, IMAGES.shape) is None


def test_a_damaged_header_gives_the_same_images_or_none(tmp_path: Path) -> None:
    stored = tmp_path / "images.npy"
    write_cache(stored, IMAGES)
    whole = stored.read_bytes()
    for at in range(128):
        for value in (0, 34, whole[at] ^ 1):
            stored.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
            found = read_cache(stored, IMAGES.shape)
            assert found is None or torch.equal(found, torch.from_numpy(IMAGES)), (at, value)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "images.npy")
    assert read_cache(tmp_path / "images.npy", IMAGES.shape) is None


@pytest.mark.parametrize("kind", ["npy", "manifest", "safetensors", "json"])
def test_leftovers_of_a_killed_write_are_removed_and_of_a_living_one_kept(
    tmp_path: Path, kind: str
) -> None:
    killed, living = (tmp_path / f".other.{kind}-{name}.tmp" for name in ("a", "b"))
    others = tmp_path / ".notes.tmp"
    for path in (killed, living, others):
        path.write_bytes(b"half")
    with living.open("r+b") as file:
        assert lock(file)
        write_cache(tmp_path / "images.npy", IMAGES)
    assert sorted(tmp_path.iterdir()) == sorted([living, others, tmp_path / "images.npy"])


def _write(stored: Path, times: int) -> None:
    for _ in range(times):
        write_cache(stored, IMAGES)


def test_several_processes_may_write_the_same_images(tmp_path: Path) -> None:
    stored = tmp_path / "images.npy"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(stored, 20)) for _ in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        found = read_cache(stored, IMAGES.shape)
        assert found is None or torch.equal(found, torch.from_numpy(IMAGES))
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert list(tmp_path.iterdir()) == [stored]


def test_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TL_CACHE", str(tmp_path / "mine"))
    assert default_cache() == tmp_path / "mine"
    monkeypatch.delenv("TL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "tl"
    monkeypatch.setenv("TL_CACHE", "~/images")
    assert default_cache() == Path.home() / "images"


def test_a_file_that_is_removed_before_it_is_locked_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [1]

    def flock(file: Any, how: int) -> None:
        del file, how
        if others:  # another process, which looks for leftovers, was faster
            others.clear()
            [temporary] = tmp_path.glob(".*.tmp")
            temporary.unlink()

    monkeypatch.setattr("tl.data.cache.fcntl.flock", flock)
    assert write_whole(tmp_path / "hashes.manifest", lambda file: file.write(b"all")) == ""
    assert (tmp_path / "hashes.manifest").read_bytes() == b"all"
    assert len([*tmp_path.iterdir()]) == 1
