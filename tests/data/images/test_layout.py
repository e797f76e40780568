from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tl.data import DataError, FolderDataModule

CLASSES = ("ant", "bee")


def images(folder: Path, count: int, classes: tuple[str, ...] = CLASSES) -> Path:
    for k, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.full((8, 8, 3), 100 * k + i, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")
    return folder


def fitted(root: Path, **settings: Any) -> FolderDataModule:
    data = FolderDataModule(root=str(root), size=8, **settings)
    data.setup("fit")
    return data


def counts(data: FolderDataModule) -> dict[str, int]:
    return data.describe()["images"]  # type: ignore[no-any-return]  # plain types


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_validation_folder_validates(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    for split, count in (("train", 10), (name, 7), ("test", 3)):
        images(tmp_path / split, count)
    with caplog.at_level(logging.INFO):
        data = fitted(tmp_path, val_size=0.3, label_fraction=0.5)
    assert counts(data) == {"train": 10, "val": 14}
    assert data.describe()["val_folder"] == name
    assert f"14 of {name}/ validate (`val_size` is not used)" in caplog.text
    data.setup("test")
    assert counts(data)["test"] == 6
    assert data.splits["val"].name(0) == "ant/00.png"


def test_classes_of_the_validation_folder(tmp_path: Path) -> None:
    images(tmp_path / "train", 4)
    images(tmp_path / "val", 2, ("bee",))
    data = fitted(tmp_path)
    assert data.splits["val"].targets["fine"].tolist() == [1, 1]
    (tmp_path / "val" / "cow").mkdir()
    with pytest.raises(DataError, match=r"val has class folders .* lacks: cow"):
        fitted(tmp_path)


def test_two_validation_folders_are_refused(tmp_path: Path) -> None:
    for split in ("train", "val", "valid"):
        images(tmp_path / split, 4)
    with pytest.raises(DataError, match="2 validation folders: val, valid"):
        fitted(tmp_path)


@pytest.mark.parametrize("val", [True, False])
def test_without_a_test_split_fit_says_so_and_test_reads_nothing(
    tmp_path: Path, val: bool, caplog: pytest.LogCaptureFixture
) -> None:
    images(tmp_path / "train", 10)
    if val:
        images(tmp_path / "val", 2)
    with caplog.at_level(logging.INFO):
        data = fitted(tmp_path)
    assert counts(data) == ({"train": 20, "val": 4} if val else {"train": 18, "val": 2})
    assert "no test split, so `test` is not possible" in caplog.text
    new = FolderDataModule(root=str(tmp_path), size=8)
    for stage in ("test", "predict"):
        with pytest.raises(DataError, match=r"has no test split: there is no folder .*test\."):
            new.setup(stage)
    assert new.splits == {}


def test_class_folders_alone_are_split_alike_for_every_seed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images(tmp_path / "all", 20)
    tested, trained = [], []
    for seed in (0, 1):
        with caplog.at_level(logging.INFO):
            data = fitted(tmp_path / "all", seed=seed, label_fraction=0.5)
        data.setup("test")
        assert counts(data) == {"train": 14, "val": 4, "test": 8}
        names = {s: {d.name(i) for i in range(len(d))} for s, d in data.splits.items()}
        assert not names["test"] & (names["train"] | names["val"])
        tested.append(names["test"])
        trained.append(names["train"])
    assert tested[0] == tested[1]
    assert trained[0] != trained[1]
    assert "has no train/ and test/; 0.2 of each class" in caplog.text
    assert data.describe()["test_size"] == 0.2
    none = fitted(tmp_path / "all", test_size=0)
    assert counts(none) == {"train": 36, "val": 4}
    with pytest.raises(DataError, match="`test_size` is 0"):
        none.setup("test")


@pytest.mark.parametrize("split", ["Train", "training", "val"])
def test_splits_of_other_names_are_not_classes(tmp_path: Path, split: str) -> None:
    images(tmp_path / split, 4)
    with pytest.raises(DataError, match=f"no folder `train`, but {split}"):
        fitted(tmp_path)


def test_data_sets_are_not_classes(tmp_path: Path) -> None:
    images(tmp_path / "photos" / "train", 4)
    with pytest.raises(DataError, match="whole data sets, not classes: photos"):
        fitted(tmp_path)
    assert len(fitted(tmp_path, folder="photos").splits["train"]) == 6


def test_a_folder_that_is_not_seen_from_here_is_named_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"no folder moved, seen from .*Set `root` to where"):
        FolderDataModule(root="moved").load("test")
