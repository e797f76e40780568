"""Class folders are read as a checkpoint was trained, or refused with the difference."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.test_as_trained import GROUPS, insects, trained
from tests.data.test_trained_on import read
from tests.images import class_folders
from tl.data.errors import DataError

__all__ = ["insects"]  # a fixture


def test_the_same_classes_below_another_folder_are_the_same_task(
    insects: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(insects, tmp_path / "newbatch"))
    data = read(other, size=20)
    data.adopt(trained(insects, size=16))
    data.setup("test")
    assert data.class_names == {"insects": ("ant", "bee", "cat")}
    assert data.image_size == 16
    assert data.splits["test"][torch.arange(1)][0].shape == (1, 3, 16, 16)


def test_other_groups_are_refused(insects: Path, tmp_path: Path) -> None:
    groups = tmp_path / "groups.csv"
    groups.write_text(GROUPS)
    record = trained(insects, targets="coarse", groups=str(groups))
    data = read(insects, targets="coarse", groups=str(groups))
    groups.write_text(GROUPS.replace("bee,wings", "bee,paws"))
    with pytest.raises(DataError, match=r"bee wings there, paws here"):
        data.adopt(record)
    groups.unlink()  # the checkpoint's own are known
    data.adopt(record)
    data.setup("test")
    assert data.splits["test"].targets["coarse"].tolist() == [1, 1, 1, 1, 0, 0]
    with pytest.raises(DataError, match="targets coarse, insects has fine"):
        read(insects).adopt(record)


def test_a_folder_without_splits_keeps_the_test_images_of_the_training(
    insects: Path, tmp_path: Path
) -> None:
    whole = insects / "train"
    ants = len(list((whole / "ant").iterdir()))
    for number in range(8):
        for name in ("ant", "bee", "cat"):
            first = min((whole / name).iterdir())
            shutil.copy(first, whole / name / f"more{number}{first.suffix}")
    record = trained(whole, test_size=0.2)

    def tested(root: Path, **options: Any) -> list[str]:
        data = read(root, **options)
        data.adopt(record)
        data.setup("test")
        split = data.splits["test"]
        return [split.name(row) for row in range(len(split))]

    assert len(tested(whole, test_size=0.2)) == 3 * round((ants + 8) * 0.2)
    assert tested(whole, test_size=0.5) == tested(whole, test_size=0.2)
    elsewhere = Path(shutil.copytree(whole, tmp_path / "elsewhere"))
    for root in (whole, elsewhere):
        for number in range(10):
            shutil.copy(first, root / "cat" / f"later{number}{first.suffix}")
    with pytest.raises(DataError, match=r"train has other images than in training.*`test/`"):
        tested(whole)
    assert tested(elsewhere)  # others, of which none need have trained


def test_a_folder_without_splits_may_have_a_part_of_the_classes(
    insects: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(insects / "train", tmp_path / "other"))
    shutil.rmtree(other / "bee")
    data = read(other)
    data.adopt(trained(insects))
    data.setup("test")
    split = data.splits["test"]
    assert set(split.targets["fine"][split.index].tolist()) == {0, 2}


def deep_images(root: Path) -> Path:
    """Images of 16 bits whose values mean nothing by themselves."""
    for number, name in enumerate(("dark", "light")):
        (root / name).mkdir(parents=True)
        for image in range(4):
            values = np.full((8, 8), 500 + 1000 * number + image, np.uint16)
            Image.fromarray(values).save(root / name / f"{image}.png")
    return root


@pytest.mark.parametrize("here", [None, (0, 4095)])
def test_values_of_more_than_8_bits_mean_what_they_meant_in_training(
    here: tuple[float, float] | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = deep_images(tmp_path / "deep")
    record = trained(root, pixel_range=(0, 2000))
    expected = read(root, pixel_range=(0, 2000))
    expected.setup("test")
    data = read(root, pixel_range=here)
    with caplog.at_level(logging.INFO):
        data.adopt(record)
        data.adopt(record)
    said = "reading images with `pixel_range` [0.0, 2000.0] as in training"
    assert caplog.text.count(f"{said}{'' if here is None else ', not [0.0, 4095.0]'}.") == 1
    data.setup("test")
    assert data.splits["test"].digest() == expected.splits["test"].digest()
    assert data.describe()["pixel_range"] == [0, 2000]
    data.pixel_range = (0, 4000)  # training reads as the options say
    data.setup("fit")
    assert data.describe()["pixel_range"] == [0, 4000]


@pytest.mark.parametrize("recorded", [True, False])
def test_a_range_that_the_checkpoint_does_not_know_is_that_of_the_options(
    recorded: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = trained(class_folders(tmp_path / "plain", ("dark", "light")))
    if not recorded:  # as by an older version
        del record["pixel_range"]
    data = read(deep_images(tmp_path / "deep"), pixel_range=(0, 2000))
    with caplog.at_level(logging.INFO):
        data.adopt(record)
    assert "`pixel_range` [0.0, 2000.0] as set here; the checkpoint records none" in caplog.text
    data.setup("test")
    assert (data.splits["test"].pixels(torch.arange(1)) == 64).all()
