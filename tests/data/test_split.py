from __future__ import annotations

import pytest
import torch

from tl.data.errors import DataError
from tl.data.split import stratified_split

LABELS = torch.arange(3).repeat_interleave(torch.tensor([100, 200, 40]))
CLASSES = ("a", "b", "c")


def split(fraction: float, *, val_size: float = 0.1, seed: int = 0) -> tuple[set[int], set[int]]:
    train, val = stratified_split(
        LABELS, val_size=val_size, label_fraction=fraction, seed=seed, classes=CLASSES
    )
    return set(train.tolist()), set(val.tolist())


def test_every_class_is_split_in_the_same_proportion() -> None:
    train, val = stratified_split(LABELS, val_size=0.1, label_fraction=0.5, seed=0, classes=CLASSES)
    assert LABELS[val].bincount().tolist() == [10, 20, 4]
    assert LABELS[train].bincount().tolist() == [45, 90, 18]
    assert not set(train.tolist()) & set(val.tolist())


def test_fractions_are_nested_and_leave_the_validation_images_alone() -> None:
    tenth, half, all_ = split(0.1), split(0.5), split(1.0)
    assert tenth[0] < half[0] < all_[0]
    assert tenth[1] == half[1] == all_[1]
    assert all_[0] | all_[1] == set(range(len(LABELS)))


def test_the_seed_decides() -> None:
    assert split(0.5, seed=1) == split(0.5, seed=1)
    assert split(0.5, seed=1) != split(0.5, seed=2)


def test_a_validation_part_that_takes_all_is_refused() -> None:
    with pytest.raises(DataError, match=r"1 of 3 classes.*c \(40 images\).*Lower `val_size`"):
        split(1.0, val_size=0.99)


def test_a_class_without_images_is_named() -> None:
    with pytest.raises(DataError, match=r"label_fraction=0.015.* 1 of 3 classes.*c \(40 images\)"):
        split(0.015)
