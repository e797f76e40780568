from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tl.checkpoints.atomic_io import AtomicCheckpointIO
from tl.checkpoints.background import Write, snapshot


class Gate:
    """Holds every write before its file gets its name, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened, fsync = threading.Event(), os.fsync

        def held(number: int) -> None:
            assert self.opened.wait(20)
            fsync(number)

        monkeypatch.setattr("os.fsync", held)


def _save(files: AtomicCheckpointIO, content: dict[str, Any], path: Path, *after: Write) -> Write:
    with files.deciding(weights=False, path=path, background=True, after=after) as write:
        files.save_checkpoint(content, path)
    return write


def _content() -> dict[str, Any]:
    shared = torch.arange(6.0)
    return {"state_dict": {"a": shared, "b": shared[2:4], "c": torch.ones(2, 3).t()}, "steps": [1]}


def test_the_file_is_that_of_a_save_at_once_whatever_changes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = AtomicCheckpointIO()
    files.save_checkpoint(_content(), tmp_path / "at_once.ckpt")
    gate, content = Gate(monkeypatch), _content()
    write = _save(files, content, tmp_path / "later.ckpt")
    assert not write.done()
    content["state_dict"]["a"].zero_()
    content["steps"].append(2)
    assert not (tmp_path / "later.ckpt").exists()
    gate.opened.set()
    write.wait()
    assert (tmp_path / "later.ckpt").read_bytes() == (tmp_path / "at_once.ckpt").read_bytes()
    files.teardown()


def test_tensors_that_share_memory_share_it_in_the_copy_also_in_inference_mode() -> None:
    for mode in (False, True):
        with torch.inference_mode(mode):
            copied = snapshot(_content())
        assert copied is not None
        a, b = (copied.content["state_dict"][name] for name in "ab")
        assert a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


def test_what_cannot_be_copied_is_written_before_training_continues(tmp_path: Path) -> None:
    result = torch.ones(2, requires_grad=True) * 2  # torch saves it, and refuses to copy it
    write = _save(AtomicCheckpointIO(), {"a": result}, tmp_path / "a.ckpt")
    assert write.job is None
    assert torch.load(tmp_path / "a.ckpt", weights_only=True)["a"].tolist() == [2, 2]


def test_a_device_that_is_neither_cpu_nor_gpu_makes_no_copy() -> None:
    assert snapshot({"a": torch.ones(2, device="meta")}) is None


def test_a_write_fails_with_the_one_that_it_builds_on(tmp_path: Path) -> None:
    files = AtomicCheckpointIO()
    (tmp_path / "folder").touch()
    first = _save(files, _content(), tmp_path / "folder" / "best.ckpt")
    second = _save(files, _content(), tmp_path / "last.ckpt", first)
    second.wait()
    assert first.failed is not None
    assert second.failed is not None
    assert second.failed.filename == str(tmp_path / "last.ckpt")
    assert not (tmp_path / "last.ckpt").exists()
    files.teardown()


def test_a_save_at_once_waits_for_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one of another file, which a handler of a signal saves meanwhile."""
    files, gate, done = AtomicCheckpointIO(), Gate(monkeypatch), list[str]()
    replace = Path.replace

    def noted(self: Path, target: Any) -> Path:
        done.append(Path(target).name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    _save(files, _content(), tmp_path / "a.ckpt")
    threading.Timer(0.05, gate.opened.set).start()
    with files.deciding(weights=False, path=tmp_path / "c.ckpt", background=True):
        files.save_checkpoint(_content(), tmp_path / "b.ckpt")
    assert done == ["a.ckpt", "b.ckpt"]
    files.teardown()


def test_nothing_is_written_in_the_background_where_that_is_off(tmp_path: Path) -> None:
    write = _save(AtomicCheckpointIO(background=False), _content(), tmp_path / "a.ckpt")
    assert write.job is None
    assert (tmp_path / "a.ckpt").exists()


def _killed_in(name: str, path: Path) -> None:
    setattr(os, name, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    files = AtomicCheckpointIO()
    _save(files, {"a": 2}, path)
    files.wait()


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_kill_while_the_thread_writes_leaves_the_earlier_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": 1}, path)
    child = multiprocessing.get_context("fork").Process(target=_killed_in, args=(name, path))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert AtomicCheckpointIO().load_checkpoint(path) == {"a": 1}
