from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path

import pytest

from tests.ticks import wait_for_a_tick
from tl.data import DataError
from tl.data.images.contents import Contents, stat_of


def noted(path: Path) -> Contents:
    """The second of two files."""
    wait_for_a_tick(path)
    found = Contents(2)
    found.note(1, hashlib.sha256(path.read_bytes()).digest(), stat_of(path))
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(b"before")
    return tmp_path / "a.png"


def test_a_file_that_looks_the_same_is_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = pickle.loads(pickle.dumps(noted(path)))  # noqa: S301 - as a worker receives it
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("was read"))
    assert not found.changed(1, path)
    found.refuse_changed(1, path)


def test_another_content_of_the_same_size_and_date_is_a_change(path: Path) -> None:
    found, before = noted(path), path.stat()
    path.write_bytes(b"after!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found.changed(1, path)
    with pytest.raises(DataError, match=r"a\.png changed after this run had hashed it\. Start"):
        found.refuse_changed(1, path)


def test_another_date_or_link_is_no_change(path: Path) -> None:
    found = noted(path)
    os.utime(path, ns=(0, 10**20))  # beyond 64 bits too
    (path.parent / "backup.png").hardlink_to(path)
    assert not found.changed(1, path)


def test_a_link_to_another_file_is_a_change(path: Path) -> None:
    link = path.with_name("link.png")
    link.symlink_to(path)
    found = noted(link)
    path.with_name("b.png").write_bytes(b"after!")
    link.unlink()
    link.symlink_to(path.with_name("b.png"))
    assert found.changed(1, link)
    link.unlink()
    assert found.changed(1, link)  # gone
    link.symlink_to(path)
    assert not found.changed(1, link)
