"""Single files are answered, and what cannot be read is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import tl
from tests.images import class_folders, trained
from tests.small import Tiny, module
from tests.text import CONFIG, build, read
from tl.backbones import TextBackbone
from tl.cli.predict_files import run_predict_files
from tl.data import CsvDataModule, FolderDataModule, MultiTaskDataModule, TextDataModule
from tl.modules import MultiTaskModule
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


def test_files_of_texts_are_answered_for_every_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = {name: read(max_length=length) for name, length in (("a", 16), ("b", 24))}
    data = MultiTaskDataModule(sources=sources, batch_size=16)
    module_ = build(data)  # type: ignore[arg-type]
    path = trained(tmp_path, module_, data, 1)
    model = tl.load(path, backbone=TextBackbone(config=CONFIG))
    monkeypatch.setattr(loading, "load", lambda _: model)
    lines, table, out = tmp_path / "lines.txt", tmp_path / "table.csv", tmp_path / "out.csv"
    lines.write_text("one text\n\nanother\n")
    table.write_text("text,note\na third,x\n")
    run_predict_files(["run", str(lines), str(table), f"--out={out}"])
    with out.open(newline="") as file:
        rows = [(row["image"], row["task"]) for row in csv.DictReader(file)]
    assert rows == [
        (text, task) for text in ("one text", "another", "a third") for task in model.tasks
    ]
    said = capsys.readouterr().out
    assert f"tl: not read: {lines}, text 2: the text is empty." in said
    assert "tl: 6 predictions in " in said


def test_each_source_reads_its_own_columns_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "train.jsonl"
    rows = [{"one": f"word {i}", "two": f"other {i}", "label": "xy"[i % 2]} for i in range(40)]
    table.write_text("\n".join(map(json.dumps, rows)))
    columns = {"a": {"text": "one"}, "b": {"text": "two", "pair": "one"}}
    sources = {
        name: TextDataModule(str(table), targets="label", vocab_size=300, **given)
        for name, given in columns.items()
    }
    data = MultiTaskDataModule(sources=sources, batch_size=8)
    network = build(data)  # type: ignore[arg-type]
    model = tl.load(trained(tmp_path, network, data, 1), backbone=network.backbone)
    monkeypatch.setattr(loading, "load", lambda _: model)
    new, out = tmp_path / "new.jsonl", tmp_path / "out.csv"
    new.write_text('{"one": "word", "two": "other"}\n{"one": "word", "two": null}\n')
    run_predict_files(["run", str(new), f"--out={out}"])
    with out.open(newline="") as file:
        found = {row["task"]: float(row["probability"]) for row in csv.DictReader(file)}
    for name, text in (("a", "word"), ("b", ("other", "word"))):
        expected = model.predict(text, source=name).probability
        assert found[name] == pytest.approx(expected, abs=1e-6)
    said = f"tl: not read: {new}, text 2: NoneType is not a text; expected"
    assert said in capsys.readouterr().out


def test_numbers_and_labels_are_readable_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class_folders(tmp_path / "photos", count=4)
    images = sorted((tmp_path / "photos").rglob("*.png"))
    table, out = tmp_path / "table.csv", tmp_path / "out.csv"
    rows = [f"{path},{i},{'a;b' if i % 2 else 'a'}" for i, path in enumerate(images)]
    table.write_text("image,age,tags\n" + "\n".join(rows) + "\n")
    targets: Any = {"age": "number", "tags": "labels"}
    data = CsvDataModule(table=str(table), targets=targets, size=8, batch_size=6)
    network = MultiTaskModule(Tiny(), data.tasks)
    model = tl.load(trained(tmp_path, network, data, 1), backbone=Tiny())
    monkeypatch.setattr(loading, "load", lambda _: model)
    run_predict_files(["run", str(images[0]), f"--out={out}"])
    age, tags, _ = capsys.readouterr().out.splitlines()
    answers = model.predict(images[0])
    assert age == f"{images[0]}  table_age  {answers['table_age'].cells['value']}"
    assert tags == f"{images[0]}  table_tags  {answers['table_tags'].words}"
