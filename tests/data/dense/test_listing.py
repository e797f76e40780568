from __future__ import annotations

from pathlib import Path

import pytest

from tl.data import DataError
from tl.data.dense.listing import find_files, find_splits


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def test_maps_are_found_by_the_name_of_their_image(tmp_path: Path) -> None:
    touch(tmp_path, "image/10.png", "image/9.jpg", "depth/9.npy", "depth/10.png", "image/.hidden")
    found = find_files(tmp_path, "image", ["depth"], "")
    assert found.names() == ["image/9.jpg", "image/10.png"]  # by number
    assert [path.name for path in found.maps["depth"]] == ["9.npy", "10.png"]


def test_an_image_without_a_map_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "image/a.png", "image/b.png", "image/c.png", "depth/a.png")
    with pytest.raises(DataError, match=r"2 of 3 images .* have no map in .*depth; the first is b"):
        find_files(tmp_path, "image", ["depth"], "")


def test_a_map_without_an_image_is_left_out_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "image/a.png", "depth/a.png", "depth/b.png", "depth/notes.txt")
    with caplog.at_level("INFO"):
        found = find_files(tmp_path, "image", ["depth"], "")
    assert [path.name for path in found.maps["depth"]] == ["a.png"]
    assert "b.png" in caplog.text
    assert "notes.txt" in caplog.text


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "image/a.png", "image/a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg and .*a\.png have one name"):
        find_files(tmp_path, "image", [], "")


def test_what_is_missing_is_said_with_the_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No such folder: .*image\. Expected this"):
        find_files(tmp_path, "image", [], "Expected this.")
    (tmp_path / "image").mkdir()
    with pytest.raises(DataError, match=r"image holds no images\. Expected this"):
        find_files(tmp_path, "image", [], "Expected this.")


def test_the_splits_of_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/a", "valid/a", "test/a")
    found = find_splits(tmp_path, published=False)
    assert {split: path.name for split, path in found.items()} == {
        "train": "train",
        "val": "valid",
        "test": "test",
    }
    touch(tmp_path, "val/a")
    with pytest.raises(DataError, match="2 validation folders: val, valid"):
        find_splits(tmp_path, published=False)


def test_what_the_published_codes_report_is_the_test_split(tmp_path: Path) -> None:
    found = find_splits(touch(tmp_path, "train/a", "val/a"), published=True)
    assert {split: path.name for split, path in found.items()} == {"train": "train", "test": "val"}
