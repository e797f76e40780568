from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import time
from pathlib import Path

import pytest

from tests.ticks import wait_for_a_tick
from tl.data.images import contents, hashing
from tl.data.images.contents import Stat, stat_of
from tl.data.images.hashing import MOST_DECODERS, TICK, Entry, FileHashes, Manifest, Verify


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
    wait_for_a_tick(paths[1])
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
    for decoder in ("a", "a", "b", "b", "a", "b"):  # as sources of two sizes in turn
        hashes = FileHashes(paths[:1], cache, "changed", decoder)
        assert hashes.of(0, lambda: checked.append(decoder)) == hashed_now(paths)[0]  # noqa: B023
        hashes.save()
        read(paths, cache)  # which does not forget that
    assert checked == ["a", "b"]


@pytest.mark.usefixtures("later")
def test_the_latest_decoders_of_a_file_are_kept(tmp_path: Path) -> None:
    paths, cache = files(tmp_path)[:1], tmp_path / "cache"
    for number in range(MOST_DECODERS + 2):
        hashes = FileHashes(paths, cache, "changed", f"{number}")
        hashes.of(0, lambda: None)
        hashes.save()
    kept = Manifest.of([str(paths[0])], cache).entries["0.bin"].decoded
    assert kept == tuple(str(number) for number in range(2, MOST_DECODERS + 2))


@pytest.mark.usefixtures("later")
def test_decoders_of_another_content_are_forgotten(tmp_path: Path) -> None:
    paths, cache = files(tmp_path)[:1], tmp_path / "cache"
    for content, decoder in ((b"one", "a"), (b"other", "b")):
        paths[0].write_bytes(content)
        hashes = FileHashes(paths, cache, "changed", decoder)
        hashes.of(0, lambda: None)
        hashes.save()
    assert Manifest.of([str(paths[0])], cache).entries["0.bin"].decoded == ("b",)


@pytest.mark.usefixtures("later")
def test_a_manifest_with_one_decoder_a_file_is_read(tmp_path: Path) -> None:
    """As earlier releases wrote it."""
    paths, cache = files(tmp_path)[:1], tmp_path / "cache"
    hashes = FileHashes(paths, cache, "changed", "a")
    hashes.of(0, lambda: None)
    hashes.save()
    (stored,) = cache.iterdir()
    assert b'"decoded":["a"]' in stored.read_bytes()
    FileHashes(paths, cache, "changed", "a").of(0, lambda: pytest.fail("decoded again"))


@pytest.mark.parametrize("verify", ["changed", "full"])
@pytest.mark.usefixtures("later")
def test_contents_that_change_after_hashing_are_noticed(
    tmp_path: Path, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, cache = files(tmp_path), tmp_path / "cache"
    read(paths, cache)
    hashes = FileHashes(paths, cache, verify)
    for number in range(3):
        hashes.of(number)
    names = contents_read(monkeypatch)
    assert not any(hashes.contents.changed(number, path) for number, path in enumerate(paths))
    assert len(names) == (3 if verify == "full" else 0)  # what a file looks like is not trusted
    wait_for_a_tick(paths[1])
    paths[1].write_bytes(b"5.bin")
    assert [hashes.contents.changed(n, path) for n, path in enumerate(paths)] == [0, 1, 0]


def test_a_fresh_file_that_changes_within_a_tick_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = files(tmp_path)[:1]
    looks = stat_of(path)  # also of what is written right after
    for module in (hashing, contents):
        monkeypatch.setattr(module, "stat_of", lambda _: looks)
    hashes = FileHashes([path], tmp_path / "cache", "changed")
    hashes.of(0)
    assert not hashes.contents.changed(0, path)
    path.write_bytes(b"1.bin")
    assert hashes.contents.changed(0, path)


@pytest.mark.usefixtures("later")
def test_a_bad_file_is_checked_again(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError("no image")

    for _ in range(2):
        hashes = FileHashes(files(tmp_path), tmp_path / "cache", "changed", "a")
        with pytest.raises(ValueError, match="no image"):
            hashes.of(0, fail)
        hashes.save()


STAT = Stat(size=3, modified=5 * TICK, changed=6 * TICK, inode=7)


def entry(hashed: int, sha256: str = "ab") -> Entry:
    return Entry(STAT, hashed, sha256, ("decoder", "of another size"))


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


@pytest.mark.parametrize("name", ["size", "modified", "changed", "inode"])
def test_another_size_time_or_inode_is_another_file(tmp_path: Path, name: str) -> None:
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
    assert Entry(late, 8 * TICK, "ab").holds(late)  # set by hand: a change would set another


def test_folders_that_exchange_their_names_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system with times in seconds, where all files have the same."""
    now = time.time_ns() - 9 * TICK
    real = stat_of
    same = {"modified": now, "changed": now}
    monkeypatch.setattr(hashing, "stat_of", lambda path: real(path)._replace(**same))
    paths = [tmp_path / name / "0" for name in ("cat", "dog")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(path.parent.name)

    def hashed() -> list[bytes]:
        hashes = FileHashes(paths, tmp_path / "cache", "changed")
        found = [hashes.of(number) for number in range(2)]
        hashes.save()
        return found

    before = hashed()
    assert hashed() == before
    (tmp_path / "cat").rename(tmp_path / "other")
    (tmp_path / "dog").rename(tmp_path / "cat")
    (tmp_path / "other").rename(tmp_path / "dog")
    assert hashed() == before[::-1]


def test_a_cache_that_may_not_be_searched_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:  # what root is never refused
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    first = kept(tmp_path)
    first.add(str(tmp_path / "a/1"), entry(7 * TICK))
    first.save()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with caplog.at_level(logging.INFO):
        assert kept(tmp_path).entries == {}
    assert "cannot be read (Permission denied)" in caplog.text


def test_a_folder_in_the_manifest_s_place_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored = kept(tmp_path).stored
    assert stored is not None
    stored.mkdir(parents=True)
    with caplog.at_level(logging.INFO):
        assert kept(tmp_path).entries == {}
    assert "cannot be read (Is a directory)" in caplog.text


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
    assert ("is of version 99, this is version 2" in caplog.text) == (damage == "version")


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


def test_without_permission_nothing_is_kept_and_one_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    manifest = kept(tmp_path)
    manifest.add(str(tmp_path / "a/1"), entry(9 * TICK))
    with caplog.at_level(logging.INFO):
        manifest.save()
    assert (tmp_path / "cache").read_text() == "a file where the folder should be"
    [line] = caplog.messages
    assert line.startswith(f"tl: the next run hashes files below {tmp_path} again: cannot write")
    assert line.endswith("(File exists).")


def test_names_that_are_not_text_are_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "a\udcff.png")
    (tmp_path / "a\udcff.png").write_bytes(b"123")
    manifest = Manifest.of([path], tmp_path / "cache")
    manifest.add(path, Entry(stat_of(path), 1, "ab"))
    manifest.save()
    assert set(Manifest.of([path], tmp_path / "cache").entries) == {"a\udcff.png"}
