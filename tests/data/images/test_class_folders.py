"""Folders of images by class: labels follow the classes that are given."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tl.data.errors import DataError
from tl.data.images.class_folders import find_classes, find_images


def halves(width: int = 20, height: int = 20) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 0, 255), (width // 2, 0, width, height))
    return image


def test_labels_follow_the_classes_given(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        halves().save(tmp_path / name / "1.png")
    assert find_classes(tmp_path) == ("x", "y")
    found = find_images(tmp_path, ("y", "x"))
    assert found.names() == ["y/1.png", "x/1.png"]
    assert found.labels.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"1 of 3 classes have no images .*: z"):
        find_images(tmp_path, ("x", "y", "z"))
    partial = find_images(tmp_path, ("x", "y", "z"), partial=True)
    assert partial.absent() == ["z"]
    assert partial.labels.tolist() == [0, 1]
