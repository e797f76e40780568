from __future__ import annotations

import fcntl
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tl.checkpoints.atomic_io import AtomicCheckpointIO
from tl.checkpoints.errors import CheckpointError
from tl.checkpoints.whole_files import remove_leftovers


def test_a_checkpoint_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": torch.arange(3), "b": 1}, path)
    again = torch.load(path, weights_only=True)
    assert again["b"] == 1
    assert torch.equal(again["a"], torch.arange(3))
    assert [p.name for p in path.parent.iterdir()] == ["a.ckpt"]


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    """The limit on a file's size fails the real write half-way, as a full disk does."""
    path = tmp_path / "a.ckpt"
    writer = AtomicCheckpointIO()
    writer.save_checkpoint({"a": 1}, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        with pytest.raises(OSError, match=r"a\.ckpt"):
            writer.save_checkpoint({"a": torch.zeros(1_000_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert torch.load(path, weights_only=True) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]


def test_the_file_reaches_the_disk_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(number: int) -> None:
        done.append("fsync")
        fsync(number)

    def noted_replace(self: Path, target: Any) -> Path:
        done.append("rename")
        return replace(self, target)

    monkeypatch.setattr("os.fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    AtomicCheckpointIO().save_checkpoint({}, tmp_path / "a.ckpt")
    assert done == ["fsync", "rename", "fsync"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    # not by chmod: a superuser may write everywhere
    (tmp_path / "checkpoints").touch()
    with pytest.raises(OSError, match=r"checkpoints/a\.ckpt"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "checkpoints" / "a.ckpt")


def test_what_a_killed_process_left_does_not_matter_and_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".a.ckpt.0123abcd.tmp"
    left.write_bytes(bytes(10**6))
    AtomicCheckpointIO().save_checkpoint({"a": 1}, tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True) == {"a": 1}
    (tmp_path / ".a.safetensors.0123abcd.tmp").touch()
    (tmp_path / ".notes.tmp").touch()
    with left.open("wb") as written:
        fcntl.flock(written, fcntl.LOCK_EX)
        remove_leftovers(tmp_path)
        assert left.exists(), "its process lives"
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".notes.tmp", "a.ckpt"]


def test_the_file_is_locked_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def meanwhile(number: int) -> None:
        remove_leftovers(tmp_path)
        fsync(number)

    monkeypatch.setattr("os.fsync", meanwhile)
    AtomicCheckpointIO().save_checkpoint({"a": 1}, tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=True) == {"a": 1}


def test_two_processes_may_save_under_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, path, others = os.fsync, tmp_path / "a.ckpt", iter([2])

    def meanwhile(number: int) -> None:
        for other in others:
            AtomicCheckpointIO().save_checkpoint({"a": other}, path)
            assert AtomicCheckpointIO().load_checkpoint(path) == {"a": other}
        fsync(number)

    monkeypatch.setattr("os.fsync", meanwhile)
    AtomicCheckpointIO().save_checkpoint({"a": 1}, path)
    assert AtomicCheckpointIO().load_checkpoint(path) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_every_load_is_verified_and_runs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    files, path = AtomicCheckpointIO(), tmp_path / "a.ckpt"
    files.save_checkpoint({"a": torch.arange(1000)}, path)
    assert torch.equal(files.load_checkpoint(path)["a"], torch.arange(1000))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="does not match the checksum in it"):
        files.load_checkpoint(path)
    files.save_checkpoint({"a": Evil()}, path)
    for asked in (None, False):
        with pytest.raises(CheckpointError, match=r"posix\.mkdir"):
            files.load_checkpoint(path, weights_only=asked)
    assert not (tmp_path / "ran").exists()


def test_what_was_read_is_loaded_once(tmp_path: Path) -> None:
    files, path = AtomicCheckpointIO(), tmp_path / "a.ckpt"
    files.save_checkpoint({"a": 1}, path)
    files.hand_over(path, {"a": 2})
    assert files.load_checkpoint(path) == {"a": 2}
    assert files.load_checkpoint(path) == {"a": 1}
    files.hand_over(tmp_path / "b.ckpt", {"a": 2})
    assert files.load_checkpoint(path) == {"a": 1}, "of another file"


def test_the_configuration_is_kept_and_the_checkpoint_not_changed(tmp_path: Path) -> None:
    files, content = AtomicCheckpointIO(), {"tl": {"tasks": []}, "a": 1}
    files.configuration = {"seed_everything": 0}
    files.save_checkpoint(content, tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert saved == {"tl": {"tasks": [], "configuration": {"seed_everything": 0}}, "a": 1}
    assert content == {"tl": {"tasks": []}, "a": 1}


def test_a_wrong_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="stop or warn"):
        AtomicCheckpointIO(on_write_error="ignore")  # type: ignore[arg-type]
