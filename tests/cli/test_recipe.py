"""The usual recipe fits the images that it finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.images import class_folders
from tl.cli.recipe import around, recipe
from tl.data import CsvDataModule, GeneratedDataModule


@pytest.mark.parametrize(("side", "size"), [(8, 32), (40, 32), (70, 64), (200, 128)])
def test_images_keep_about_their_size(tmp_path: Path, side: int, size: int) -> None:
    found, line = recipe(str(class_folders(tmp_path / "my pets", count=2, size=side)), None)
    assert found["data"]["class_path"] == "tl.data.folder.FolderDataModule"
    assert found["data"]["init_args"]["size"] == size
    assert found["data"]["init_args"]["root"] == str(tmp_path / "my pets")
    assert found["name"] == "my_pets"
    assert found["model"]["class_path"] == "tl.modules.TransferModule"
    assert f"{size}x{size} pixels" in line


def test_a_table_may_have_several_tasks(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("image,label\na.png,b\n")
    found, _ = recipe(str(tmp_path / "labels.csv"), None)
    assert found["model"]["class_path"] == "tl.modules.MultiTaskModule"
    given = {"root": str(tmp_path), "table": "labels.csv"}
    assert given.items() <= found["data"]["init_args"].items()


@pytest.mark.parametrize(("side", "size"), [(24, 32), (200, 128)])
def test_images_of_a_table_keep_about_their_size(tmp_path: Path, side: int, size: int) -> None:
    photos = class_folders(tmp_path / "photos", count=2, size=side)
    named = [path.relative_to(tmp_path) for path in sorted(photos.rglob("*.*"))]
    rows = [f"{'a long note ' * 50},{path},{path.parent.name}" for path in named]
    (tmp_path / "labels.csv").write_text("\n".join(["note,file,kind", *rows]))
    found, line = recipe(str(tmp_path / "labels.csv"), None)
    assert found["data"]["init_args"]["size"] == size
    assert f"{size}x{size} pixels" in line


def test_options_of_the_data_go_first() -> None:
    found, line = around(CsvDataModule, {"size": 16, "batch_size": 4}, "a", [], None)
    assert found["data"]["init_args"] | {"size": 16, "batch_size": 4} == found["data"]["init_args"]
    assert "16x16" in line


def test_data_that_are_not_resized_have_no_size_in_the_line() -> None:
    found, line = around(GeneratedDataModule, {}, "a", [], None)
    assert " from scratch, 30 epochs" in line
    assert "size" not in found["data"]["init_args"]
    assert found["data"]["init_args"]["augment"]["padding"] == 4


def test_splits_of_other_names_are_refused(tmp_path: Path) -> None:
    class_folders(tmp_path / "photos" / "training")
    with pytest.raises(ValueError, match="has no folder `train`, but training"):
        recipe(str(tmp_path / "photos"), None)
