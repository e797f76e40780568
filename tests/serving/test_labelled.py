"""Folders are evaluated by class name, and never silently on what was trained on."""

from __future__ import annotations

import csv
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tl
from tests.images import class_folders, trained
from tests.small import Tiny, module
from tests.text import build, read
from tl.data import CsvDataModule, FolderDataModule
from tl.serving.exporting import export
from tl.serving.readers import reader_of


def test_a_folder_is_matched_by_class_name(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "photos")
    data = FolderDataModule(root=str(root), size=8, batch_size=6)
    model = tl.load(trained(tmp_path, module(data), data, 30), backbone=Tiny())  # type: ignore[arg-type]
    # two of three classes: the numbers of training, not those of the folder
    other = class_folders(tmp_path / "other", ("green", "red"), count=5, seed=1)
    found = model.evaluate(other)
    assert found.samples == 10
    assert found.accuracy == 1.0
    assert found.per_class["samples"] == [0, 5, 5]
    # of the folder that was split for training, only what was held out
    assert model.evaluate(root).samples == 6
    moved = root.rename(tmp_path / "moved")
    assert model.evaluate(moved).samples == 6
    min((moved / "red").iterdir()).rename(tmp_path / "taken.png")
    assert model.evaluate(moved).samples == 23  # other images
    (other / "yellow").mkdir()
    with pytest.raises(ValueError, match="only here: yellow"):
        model.evaluate(other)
    split = tmp_path / "split"
    class_folders(split / "train", count=2)
    class_folders(split / "test", count=4)
    assert model.evaluate(str(split), batch_size=5).samples == 12


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    data = FolderDataModule(root=str(class_folders(tmp_path / "photos")), size=8, batch_size=6)
    model = tl.load(trained(tmp_path, module(data), data, 1), backbone=Tiny())  # type: ignore[arg-type]
    other = class_folders(tmp_path / "other", ("green", "red"), count=3)
    (other / "red" / "1.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"1 of 6 images cannot be read: .*1\.png \(not an image"):
        found = model.evaluate(other)
    assert found.samples == 5
    assert list(found.errors) == [str(other / "red" / "1.png")]
    assert "1 could not be read, the first: " in repr(found)
    for path in other.rglob("*.png"):
        path.write_bytes(b"no image")
    with (
        pytest.warns(UserWarning, match="6 of 6 images"),
        pytest.raises(ValueError, match=r"\ANo image in [^\n]* can be read"),
    ):
        model.evaluate(other)


def test_training_images_are_not_evaluated_silently(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class_folders(tmp_path / "photos" / "train")
    class_folders(tmp_path / "photos" / "test", count=2)
    data = FolderDataModule(root=str(tmp_path / "photos"), size=8, batch_size=6)
    model = tl.load(trained(tmp_path, module(data), data, 1), backbone=Tiny())  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="that the model was trained on: expect lower scores"):
        model.evaluate(tmp_path / "photos" / "train")
    moved = (tmp_path / "photos").rename(tmp_path / "moved")
    caplog.clear()
    with (
        caplog.at_level(logging.INFO),
        pytest.warns(UserWarning, match="that the model was trained on: expect lower scores"),
    ):
        model.evaluate(moved / "train")
    assert caplog.text.count("reading images at 8x8 pixels as in training") == 1
    min((moved / "train" / "red").iterdir()).unlink()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*that the model was trained on")
        model.evaluate(moved / "train")  # other images


def test_a_table_of_texts_is_evaluated(tmp_path: Path) -> None:
    data = read()
    network = build(data)
    model = tl.load(trained(tmp_path, network, data, 1), backbone=network.backbone)
    expected = model.evaluate(read())
    with (tmp_path / "texts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "topic"])
        topics = data.class_names[data.tasks[0].name]
        data.setup("test")
        split = data.splits["test"]
        labels = split.targets["topic"].tolist()
        writer.writerows([split.name(i), topics[labels[i]]] for i in range(len(split)))
    found = model.evaluate(tmp_path / "texts.csv")
    assert found.samples == expected.samples == 40
    assert found.confusion.counts.equal(expected.confusion.counts)
    with pytest.raises(ValueError, match=r"reads the sources sentences; .* not 'others'"):
        model.evaluate(tmp_path / "texts.csv", source="others")


def test_a_table_is_evaluated_where_texts_were_also_masked(tmp_path: Path) -> None:
    data = read(masked_tokens=0.15)
    network = build(data)
    model = tl.load(trained(tmp_path, network, data, 1), backbone=network.backbone)
    names = data.target_classes()["topic"]
    rows = [f"word {i},{names[i % len(names)]}" for i in range(8)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,topic", *rows]))
    found = model.evaluate(tmp_path / "texts.csv")
    assert found["sentences_topic"].samples == 8
    assert [*found] == model.tasks


def text_table(path: Path, count: int = 24, column: str = "", words: str = "small") -> Path:
    """Write labelled texts, every fourth of them to test and every fifth to validate."""
    splits = {0: ",test", 1: ",val"} if column else {}
    rows = [
        f"{('red', 'blue')[i % 2]} {words} thing {i},{'ab'[i % 2]}"
        + splits.get(i % 4, ",train" if column else "")
        for i in range(count)
    ]
    path.write_text("\n".join([f"text,label{column and f',{column}'}", *rows]))
    return path


@pytest.mark.parametrize("validated", ["share", "file"])
def test_training_texts_are_not_evaluated_silently(validated: str, tmp_path: Path) -> None:
    train = text_table(tmp_path / "train.csv")
    other = text_table(tmp_path / "other.csv", 8, words="large")
    own = {"val_size": 0.25} if validated == "share" else {"val": str(other)}
    data = tl.TextDataModule(str(train), targets={"label": "class"}, vocab_size=100, **own)
    network = build(data)
    model = tl.load(trained(tmp_path, network, data, 1), backbone=network.backbone)
    copied = Path(shutil.copy(train, tmp_path / "copied.csv"))
    with pytest.warns(
        UserWarning, match=r"copied\.csv holds the texts that the model was trained on"
    ):
        assert model.evaluate(copied).samples == 24
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*that the model was trained on")
        assert model.evaluate(other).samples == 8
        assert model.evaluate(text_table(tmp_path / "more.csv", 25)).samples == 25


def test_only_test_rows_count_of_the_texts_that_a_column_divided(tmp_path: Path) -> None:
    table = text_table(tmp_path / "table.csv", column="part")
    table.write_text(table.read_text().replace("thing", "thé"), encoding="latin-1")
    read: dict[str, Any] = {"encoding": "latin-1", "vocab_size": 100}
    data = tl.TextDataModule(str(table), split="part", targets={"label": "class"}, **read)
    network = build(data)
    model = tl.load(trained(tmp_path, network, data, 1), backbone=network.backbone)
    assert model.evaluate(table).samples == 6
    assert [each.sample for each in model.predict(table)][:1] == ["red small thé 0"]
    record = data.describe()
    files = record | {"columns": record["columns"] | {"split": None}}
    assert reader_of(record).way == reader_of(files).way  # one pass answers for both
    other = text_table(tmp_path / "other.csv", 20, column="part", words="large")
    assert model.evaluate(other).samples == 20


def test_the_table_that_training_split_is_recognised(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "set" / "photos")
    paths = sorted(root.rglob("*.png"))
    rows = [f"{path.relative_to(root)},{path.parent.name}" for path in paths]
    table = root.parent / "labels.csv"
    table.write_text("\n".join(["image,label", *rows]))
    data = tl.from_csv(table, folder="photos", test_size=0.25, size=8, batch_size=6)
    path = trained(tmp_path, module(data), data, 1)  # type: ignore[arg-type]
    model = tl.load(path, backbone=Tiny())
    held_out = model.evaluate(table).samples
    assert 0 < held_out < len(rows)
    export(path, tmp_path / "out", backbone=Tiny())
    shipped = tl.load(tmp_path / "out", backbone=Tiny())
    assert shipped.evaluate(table).samples == held_out
    moved = (tmp_path / "set").rename(tmp_path / "moved") / table.name
    assert model.evaluate(moved).samples == shipped.evaluate(moved).samples == held_out
    bare = tmp_path / "moved" / "photos" / "labels.csv"
    bare.write_text("\n".join(["image,label", *rows[1:]]))  # other images
    assert shipped.evaluate(bare).samples == len(rows) - 1


def test_training_images_are_recognised_beside_validation_images(tmp_path: Path) -> None:
    for name, count in (("train", 6), ("val", 2), ("test", 2)):
        class_folders(tmp_path / "photos" / name, count=count)
    data = FolderDataModule(root=str(tmp_path / "photos"), size=8, batch_size=6)
    model = tl.load(trained(tmp_path, module(data), data, 1), backbone=Tiny())  # type: ignore[arg-type]
    moved = (tmp_path / "photos").rename(tmp_path / "moved")
    with pytest.warns(UserWarning, match="that the model was trained on: expect lower scores"):
        model.evaluate(moved / "train")


def test_a_table_needs_known_columns(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "photos", count=4)
    data = FolderDataModule(root=str(root), size=8, batch_size=6)
    model = tl.load(trained(tmp_path, module(data), data, 1), backbone=Tiny())  # type: ignore[arg-type]
    rows = [f"photos/{path.relative_to(root)},{path.parent.name}" for path in root.rglob("*.png")]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label", *rows]))
    with pytest.raises(
        ValueError, match=r"\A.*so its columns are not known; name them by tl\.from"
    ):
        model.evaluate(tmp_path / "labels.csv")
    table = tl.from_csv(tmp_path / "labels.csv", test_size=0.5)
    assert model.evaluate(table).samples in (3, 6)


def deep_images(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """Write images of 16 bits with a table, and the same ones of 8 bits; return both folders."""
    plain, deep = class_folders(folder / "plain", count=5, seed=seed), folder / "deep"
    rows = ["image,label"]
    for path in sorted(plain.rglob("*.png")):
        grey, copied = Image.open(path).convert("L"), deep / path.relative_to(plain)
        grey.save(path)
        copied.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(grey, np.uint16) * 10).save(copied)
        rows.append(f"{path.relative_to(plain)},{path.parent.name}")
    for root in (plain, deep):
        (root / "labels.csv").write_text("\n".join(rows))
    return plain, deep


@pytest.mark.parametrize("what", ["", "labels.csv"])
@pytest.mark.parametrize("exported", [False, True])
def test_values_of_more_than_8_bits_mean_what_they_meant_in_training(
    what: str, exported: bool, tmp_path: Path
) -> None:
    """The same images of 8 bits have the same answers."""
    plain, deep = deep_images(tmp_path / "own")
    options: dict[str, Any] = {"size": 8, "batch_size": 6, "pixel_range": (0, 2550)}
    kind: Any = CsvDataModule if what else FolderDataModule
    data = kind(root=str(deep), **options)
    path = trained(tmp_path, module(data), data, 1)
    if exported:
        path = export(path, tmp_path / "out", backbone=Tiny()).folder
    model = tl.load(path, backbone=Tiny())
    probabilities = [model.predict(root / "red" / "0.png").probability for root in (plain, deep)]
    assert probabilities[0] == probabilities[1]
    assert model.evaluate(deep / what).samples == 3  # held out in training
    moved = Path(shutil.copytree(deep, tmp_path / "moved"))
    assert model.evaluate(moved / what).samples == 3
    found = [model.evaluate(root / what) for root in deep_images(tmp_path / "other", seed=1)]
    assert found[0].metrics == found[1].metrics
    assert found[0].samples == 15
