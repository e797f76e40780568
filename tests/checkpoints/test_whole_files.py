from __future__ import annotations

import json
from pathlib import Path

import pytest

from tl.checkpoints.whole_files import made_folder, write_json


def test_folders_are_made(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "a.json", {"a": 1})
    assert json.loads((tmp_path / "deep" / "a.json").read_text()) == {"a": 1}


def test_other_types_are_written_as_asked(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": Path("b")}, default=str)
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": "b"}


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*results.json'"):
        write_json(tmp_path / "results.json", {})


def test_a_folder_for_results_is_there_before_the_work(tmp_path: Path) -> None:
    assert made_folder(tmp_path / "a" / "b").is_dir()
    assert made_folder(str(tmp_path / "a")) == tmp_path / "a"
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file cannot be a folder for results \(File exists\)"):
        made_folder(tmp_path / "file")
