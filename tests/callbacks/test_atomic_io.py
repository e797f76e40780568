from __future__ import annotations

import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tl.callbacks.atomic_io import AtomicCheckpointIO


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
