"""Single files are answered, and what cannot be read is named."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import tl
from tests.images import class_folders, trained
from tests.small import Tiny, module
from tl.cli.predict_files import run_predict_files
from tl.data import FolderDataModule
from tl.serving import load as loading


def test_files_and_folders_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = class_folders(tmp_path / "photos", count=4)
    data = FolderDataModule(root=str(root), size=8, batch_size=6)
    model = tl.load(trained(tmp_path, module(data), data, 1), backbone=Tiny())  # type: ignore[arg-type]
    monkeypatch.setattr(loading, "load", lambda _: model)
    bad = root / "red" / "bad.png"
    bad.write_bytes(b"no image")
    out = tmp_path / "out.csv"
    run_predict_files(["run", str(root / "green"), str(bad), f"--out={out}"])
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["image"]).name for row in rows] == [f"{number}.png" for number in range(4)]
    assert {row["task"] for row in rows} == {"photos"}
    assert [row["class_name"] for row in rows] == [
        each.label for each in model.predict(root / "green")
    ]
    said = capsys.readouterr().out
    assert "tl: not read: " in said
    assert "bad.png" in said
    assert "tl: 4 predictions in " in said
