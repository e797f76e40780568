"""Images in a table: any folders, several targets, one split for every seed."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest

import tl
from tests.images import class_folders, trained
from tests.small import Tiny
from tl.data import CsvDataModule, DataError
from tl.modules import MultiTaskModule, TransferModule
from tl.tasks import Classification, Regression


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def flat(folder: Path, count: int = 10) -> list[dict[str, Any]]:
    """Images of three colours in one folder, and their rows."""
    class_folders(folder / "by_class", count=count)
    rows: list[dict[str, Any]] = []
    for number, path in enumerate(sorted((folder / "by_class").rglob("*.png"))):
        path.rename(folder / f"{number}.png")
        colour = path.parent.name
        tags = ";".join([colour, "warm" if colour == "red" else "cold"])
        rows.append({"image": f"{number}.png", "label": colour, "age": number, "tags": tags})
    return rows


def made(root: Path, **options: Any) -> CsvDataModule:
    given = {"size": 8, "batch_size": 6, **options}
    return CsvDataModule(root=str(root), **given)


def names(data: CsvDataModule, split: str) -> set[str]:
    return {data.splits[split].name(row) for row in range(len(data.splits[split]))}


def test_an_automatic_split_holds_out_the_same_rows_for_every_seed(tmp_path: Path) -> None:
    write(tmp_path / "labels.csv", flat(tmp_path))
    found = []
    for seed in (0, 1):
        data = made(tmp_path, seed=seed)
        data.setup("fit")
        data.setup("test")
        parts = [names(data, split) for split in ("train", "val", "test")]
        assert [len(part) for part in parts] == [21, 3, 6]
        assert len(set.union(*parts)) == 30
        # every class in proportion
        assert data.splits["test"].targets["label"].bincount().tolist() == [2, 2, 2]
        found.append(parts)
    assert found[0][2] == found[1][2]
    assert found[0][1] != found[1][1]
    assert data.class_names == {"labels": ("blue", "green", "red")}
    assert data.task == Classification("labels", 3)


def test_a_column_of_splits(tmp_path: Path) -> None:
    rows = flat(tmp_path)
    for number, row in enumerate(rows):
        row["part"] = ("Train", "train", "dev", "test", "train")[number % 5]
    write(tmp_path / "labels.csv", rows)
    data = made(tmp_path, split="part")
    data.setup("fit")
    data.setup("test")
    assert [len(data.splits[split]) for split in ("train", "val", "test")] == [18, 6, 6]
    assert names(data, "test") == {row["image"] for row in rows if row["part"] == "test"}


def test_several_targets_and_missing_ones(tmp_path: Path) -> None:
    rows = flat(tmp_path)
    rows[3]["label"] = rows[4]["age"] = rows[5]["tags"] = ""
    write(tmp_path / "labels.csv", rows)
    kinds = {"label": "class", "age": "number", "tags": "labels"}
    data = made(tmp_path, targets=kinds, test_size=0, val_size=0)
    data.setup("fit")
    assert [type(task) for task in data.tasks] == [Classification, Regression, type(data.tasks[2])]
    assert [task.name for task in data.tasks] == ["labels_label", "labels_age", "labels_tags"]
    assert data.class_names["labels_tags"] == ("blue", "cold", "green", "red", "warm")
    targets = data.splits["train"].targets
    assert int(targets["label"][3]) == -1
    assert math.isnan(targets["age"][4])
    assert targets["tags"][0].tolist() == [1, 1, 0, 0, 0]
    assert sum(task.num_classes for task in data.tasks if isinstance(task, Classification)) == 8
    model = tl.load(
        trained(tmp_path, MultiTaskModule(Tiny(), data.tasks), data, 1), backbone=Tiny()
    )
    answer = model.predict(tmp_path / "0.png")
    assert answer["labels_label"].label in ("blue", "green", "red")


def test_numbers_alone_are_split_at_random(tmp_path: Path) -> None:
    write(tmp_path / "labels.csv", flat(tmp_path))
    data = made(tmp_path, targets={"age": "number"})
    data.setup("fit")
    data.setup("test")
    assert [len(data.splits[split]) for split in ("train", "val", "test")] == [21, 3, 6]
    assert data.task == Regression("labels")


def test_paths_from_another_folder_and_without_their_ending(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    rows = flat(tmp_path / "photos")
    for row in rows:
        row["id"] = row.pop("image").removesuffix(".png")
    write(tmp_path / "breeds.csv", rows)
    options = {"table": "breeds.csv", "image": "id", "suffix": ".png"}
    data = made(tmp_path, folder="photos", **options)
    data.setup("fit")
    assert data.data_name == "breeds"
    message = (
        r"\A30 of 30 images named in [^\n]* do not exist, the first [^\n]*0\.png \(line 2\)\. Set"
    )
    with pytest.raises(DataError, match=message):
        made(tmp_path, **options).setup("fit")


def test_an_evaluation_reads_as_in_training(tmp_path: Path) -> None:
    table = write(tmp_path / "labels.csv", flat(tmp_path))
    data = made(tmp_path)
    network = TransferModule(Tiny(), Classification("labels", 3))
    path = trained(tmp_path, network, data, 25)
    model = tl.load(path, backbone=Tiny())
    assert model.evaluate(made(tmp_path, test_size=0.5)).samples == 6  # what training held out
    # another table, of fewer classes and another column
    (tmp_path / "other").mkdir()
    rows = [{"image": row["image"], "label": row["label"]} for row in flat(tmp_path / "other")[10:]]
    other = write(tmp_path / "other" / "more.csv", rows)
    found = model.evaluate(other)
    assert (found.samples, found.accuracy) == (20, 1.0)
    # of the table that was split for training, only what was held out
    assert model.evaluate(table).samples == 6


def test_a_changed_table_is_not_evaluated_on_what_trained(tmp_path: Path) -> None:
    rows = flat(tmp_path)
    table = write(tmp_path / "labels.csv", rows)
    data = made(tmp_path)
    network = TransferModule(Tiny(), Classification("labels", 3))
    model = tl.load(trained(tmp_path, network, data, 1), backbone=Tiny())
    write(table, rows[:-1])
    with pytest.raises(DataError, match="has other images than in training, so the images held"):
        model.evaluate(made(tmp_path))


def test_unreadable_images_are_skipped_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "labels.csv", flat(tmp_path))
    (tmp_path / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 of 24 image files cannot be read: .*0\.png"):
        made(tmp_path).setup("fit")
    with caplog.at_level("INFO"):
        data = made(tmp_path, on_bad_image="skip")
        data.setup("fit")
    assert "skipped 1 of 24 train images as unreadable" in caplog.text
    assert "tl: labels: 20 images to train, 3 to validate, 6 to test, the same" in caplog.text


@pytest.mark.parametrize(
    ("options", "change", "said"),
    [
        ({"table": "none.csv"}, {}, r"No such file: .*none\.csv"),
        ({"image": "path"}, {}, r"has no column 'path' \(`image`\); its columns are image, label"),
        ({"targets": "breed"}, {}, r"has no column 'breed' \(`targets`\)"),
        ({"targets": {"age": "numbr"}}, {}, "must be one of class, number, labels, got 'numbr'"),
        ({"targets": {"label": "number"}}, {}, "line 2 has 'blue' where a number is expected"),
        ({"targets": []}, {}, "`targets` is empty; name at least one column to learn"),
        ({"groups": "g.csv"}, {}, "`groups` is for class folders; here a group is one more column"),
        ({"split": "label"}, {}, r"line 2 has the split 'blue' \(label\); expected train, val or"),
        ({"split": "part"}, {}, r"has no column 'part' \(`split`\)"),
        ({}, {"image": ""}, r"line 2 names no image \(image\)"),
        (
            {},
            {"image": "1.png"},
            r"names 1 image in more than one row, the first 1\.png in lines 2",
        ),
        ({}, {"image": "x.png"}, r"1 of 30 images .* the first .*x\.png \(line 2\)"),
    ],
)
def test_every_mistake_is_one_line(
    tmp_path: Path, options: dict[str, Any], change: dict[str, str], said: str
) -> None:
    rows = flat(tmp_path)
    rows[0] |= change
    write(tmp_path / "labels.csv", rows)
    with pytest.raises(ValueError, match=rf"\A[^\n]*{said}[^\n]*\Z"):
        made(tmp_path, **options).setup("fit")


def test_a_split_without_rows_is_named(tmp_path: Path) -> None:
    write(tmp_path / "labels.csv", [{**row, "part": "test"} for row in flat(tmp_path)])
    with pytest.raises(ValueError, match=r"labels\.csv has no row of the split train \(part\)"):
        made(tmp_path, split="part").setup("fit")


@pytest.mark.parametrize("spelling", ["absolute", "around"])
def test_an_image_is_known_by_any_spelling_of_its_path(tmp_path: Path, spelling: str) -> None:
    rows = flat(tmp_path)
    again = tmp_path / "1.png" if spelling == "absolute" else Path("..") / tmp_path.name / "1.png"
    rows[0] |= {"image": str(again)}
    write(tmp_path / "labels.csv", rows)
    with pytest.raises(DataError, match=r"names 1 image in more than one row, .* in lines 2 and"):
        made(tmp_path).setup("fit")


def test_a_label_that_training_lacks_is_named(tmp_path: Path) -> None:
    rows = flat(tmp_path)
    for number, row in enumerate(rows):
        row["part"] = "test" if number % 5 == 0 else "train"
    rows[0]["label"] = "violet"
    write(tmp_path / "labels.csv", rows)
    data = made(tmp_path, split="part")
    with pytest.raises(DataError, match=r"line 2 has the label 'violet'.* training split lacks"):
        data.setup("fit")


def test_a_table_elsewhere_names_images_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "notes").mkdir()
    rows = flat(tmp_path / "photos")
    table = write(tmp_path / "notes" / "labels.csv", rows)
    data = tl.from_csv(table, root=str(tmp_path / "photos"), size=8)
    data.setup("fit")
    assert len(data.splits["train"]) + len(data.splits["val"]) == 24


def test_a_table_that_is_not_there_is_looked_for_below_the_root(tmp_path: Path) -> None:
    for name in ("photos", "photos/notes"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "labels.csv", flat(tmp_path / name)[:: 2 if "/" in name else 1])
    data = tl.from_csv("notes/labels.csv", root=str(tmp_path / "photos"), size=8)
    data.setup("fit")
    assert len(data.splits["train"]) + len(data.splits["val"]) == 12  # of 15
    missing = tl.from_csv("other/labels.csv", root=str(tmp_path / "photos"), size=8)
    with pytest.raises(DataError, match=r"No such file: .*photos/other/labels\.csv"):
        missing.setup("fit")
