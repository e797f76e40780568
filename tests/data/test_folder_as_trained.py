"""Class folders are read as a checkpoint was trained, or refused with the difference."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.test_as_trained import GROUPS, insects, trained
from tests.data.test_trained_on import read
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
