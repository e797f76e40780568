from __future__ import annotations

import pytest
import torch

from tl.data.errors import DataError
from tl.data.split import random_split, stratified_split

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


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_the_advice_for_a_class_of_one_image_works(fraction: float) -> None:
    def attempt(val_size: float, label_fraction: float) -> None:
        labels = torch.tensor([0, 1, 1, 1])
        stratified_split(
            labels, val_size=val_size, label_fraction=label_fraction, seed=0, classes=("a", "b")
        )

    with pytest.raises(DataError, match=r"a \(1 image\)\. .*set `val_size` to 0") as error:
        attempt(0.01, fraction)
    assert ("`label_fraction` to 1" in str(error.value)) == (fraction < 1)
    attempt(0, 1.0)


def test_the_advised_label_fraction_is_enough() -> None:
    labels = torch.zeros(8, dtype=torch.int64)

    def attempt(fraction: float) -> None:
        stratified_split(labels, val_size=0.1, label_fraction=fraction, seed=0, classes=("a",))

    with pytest.raises(DataError, match=r"Set `label_fraction` to 0\.1429 or more"):
        attempt(0.1)
    attempt(0.1429)


def test_a_class_of_no_image_needs_one() -> None:
    with pytest.raises(DataError, match=r"b \(0 images\)\. Give more") as error:
        stratified_split(
            torch.zeros(5, dtype=torch.int64),
            val_size=0.1,
            label_fraction=1.0,
            seed=0,
            classes=("a", "b"),
        )
    assert "Lower" not in str(error.value)


def test_a_random_split_is_seeded_nested_and_of_the_asked_sizes() -> None:
    train, val = random_split(100, 0.15, 1.0, 3)
    assert (len(train), len(val)) == (85, 15)
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(100))
    few, same = random_split(100, 0.15, 0.1, 3)
    assert torch.equal(same, val)
    assert len(few) == 8
    assert set(few.tolist()) < set(train.tolist())
    assert not torch.equal(random_split(100, 0.15, 1.0, 4)[1], val)
    assert len(random_split(5, 0.0, 1.0, 0)[1]) == 0


@pytest.mark.parametrize(
    ("fraction", "said"),
    [
        (1.0, "`val_size=0.9` leaves none of 3 texts to train"),
        (0.1, "`val_size=0.9` and `label_fraction=0.1` leave none of 3 texts to train"),
    ],
)
def test_a_random_split_without_a_training_sample_is_refused(fraction: float, said: str) -> None:
    with pytest.raises(DataError, match=said):
        random_split(3, 0.9, fraction, 0, "texts")
