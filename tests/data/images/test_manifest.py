from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest

from tl.data.images.manifest import TICK, Entry, Manifest, Stat, stat_of

STAT = Stat(size=3, modified=5 * TICK, changed=6 * TICK)


def entry(hashed: int, sha256: str = "ab") -> Entry:
    return Entry(STAT, hashed, sha256, "decoder")


def kept(folder: Path) -> Manifest:
    """The manifest of a folder with two files in two subfolders."""
    for name in ("a/1", "b/2"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    return Manifest.of([str(folder / "a/1"), str(folder / "b/2")], folder / "cache")


def test_entries_come_back(tmp_path: Path) -> None:
    first = kept(tmp_path)
    assert first.folder == str(tmp_path)
    path = str(tmp_path / "a/1")
    first.add(path, entry(7 * TICK))
    first.add(str(tmp_path / "b/2"), entry(9 * TICK, "cd"))
    first.save()
    again = kept(tmp_path)
    assert again.entries == first.entries
    assert again.known(path, STAT) == entry(7 * TICK)
    assert again.known(str(tmp_path / "other"), STAT) is None


@pytest.mark.parametrize("name", ["size", "modified", "changed"])
def test_another_size_or_time_is_another_file(tmp_path: Path, name: str) -> None:
    manifest = kept(tmp_path)
    manifest.add(path := str(tmp_path / "a/1"), entry(9 * TICK))
    assert manifest.known(path, STAT) is not None
    for step in (-1, 1):  # also one that is older than before
        other = Stat(**{**STAT._asdict(), name: getattr(STAT, name) + step})
        assert manifest.known(path, other) is None


def test_a_file_that_changed_within_a_tick_of_its_hashing_is_not_known() -> None:
    assert not entry(7 * TICK - 1).holds(STAT)
    assert entry(7 * TICK).holds(STAT)
    late = STAT._replace(modified=9 * TICK)  # a clock of another machine, or set by hand
    assert not Entry(late, 9 * TICK, "ab").holds(late)


@pytest.mark.parametrize("damage", ["short", "byte", "empty", "foreign", "version", "columns"])
def test_a_damaged_or_foreign_manifest_is_not_read(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = kept(tmp_path)
    manifest.add(str(tmp_path / "a/1"), entry(9 * TICK))
    manifest.save()
    stored = manifest.stored
    assert stored is not None
    content = stored.read_bytes()
    head, body = content.split(b"\n")
    said = json.loads(head)
    damaged = {
        "short": content[:-5],
        "byte": content.replace(b'"ab"', b'"ac"'),
        "empty": b"",
        "foreign": b"\x00\xff" * 50,
        "version": json.dumps(said | {"version": 99}).encode() + b"\n" + body,
        "columns": content.replace(b'"size"', b'"siz3"'),
    }
    stored.write_bytes(damaged[damage])
    with caplog.at_level(logging.INFO):
        assert kept(tmp_path).entries == {}
    assert caplog.text.count("hashing all files below") == 1
    assert ("is of version 99, this is version 1" in caplog.text) == (damage == "version")


def test_a_clock_that_went_back_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = kept(tmp_path)
    manifest.add(str(tmp_path / "a/1"), entry(time.time_ns() + 60 * 10**9))
    manifest.save()
    with caplog.at_level(logging.INFO):
        assert kept(tmp_path).entries == {}
    assert "so the clock went back" in caplog.text


def test_files_that_are_gone_are_dropped_and_others_stay(tmp_path: Path) -> None:
    manifest = kept(tmp_path)
    for name in ("a/1", "b/2"):
        manifest.add(str(tmp_path / name), entry(9 * TICK))
    manifest.save()
    (tmp_path / "b/2").unlink()
    again = Manifest(manifest.folder, manifest.stored)
    again.add(str(tmp_path / "a/1"), entry(10 * TICK))
    again.save()
    assert set(Manifest(manifest.folder, manifest.stored).entries) == {"a/1"}


def test_without_permission_nothing_is_kept_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    manifest = kept(tmp_path)
    manifest.add(str(tmp_path / "a/1"), entry(9 * TICK))
    manifest.save()
    assert (tmp_path / "cache").read_text() == "a file where the folder should be"


def test_names_that_are_not_text_are_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "a\udcff.png")
    (tmp_path / "a\udcff.png").write_bytes(b"123")
    manifest = Manifest.of([path], tmp_path / "cache")
    manifest.add(path, Entry(stat_of(path), 1, "ab"))
    manifest.save()
    assert set(Manifest.of([path], tmp_path / "cache").entries) == {"a\udcff.png"}
