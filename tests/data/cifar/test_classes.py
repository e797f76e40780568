from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from tl.data.cifar import classes as official


@pytest.mark.parametrize(
    ("names", "count"),
    [(official.CIFAR10, 10), (official.CIFAR100, 100), (official.CIFAR100_COARSE, 20)],
)
def test_names_are_unique_and_sorted(names: tuple[str, ...], count: int) -> None:
    assert len(names) == len(set(names)) == count
    assert list(names) == sorted(names)  # the official labels are in alphabetical order


def test_every_group_has_five_classes() -> None:
    assert Counter(official.CIFAR100_COARSE_OF_FINE) == Counter(dict.fromkeys(range(20), 5))


def test_groups_hold_what_the_paper_lists() -> None:
    members: dict[str, set[str]] = {name: set() for name in official.CIFAR100_COARSE}
    for fine, coarse in zip(official.CIFAR100, official.CIFAR100_COARSE_OF_FINE, strict=True):
        members[official.CIFAR100_COARSE[coarse]].add(fine)
    assert members["people"] == {"baby", "boy", "girl", "man", "woman"}
    assert members["trees"] == {"maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"}
    assert members["fish"] == {"aquarium_fish", "flatfish", "ray", "shark", "trout"}
    assert members["vehicles_1"] == {"bicycle", "bus", "motorcycle", "pickup_truck", "train"}
    assert members["vehicles_2"] == {"lawn_mower", "rocket", "streetcar", "tank", "tractor"}


def test_classes_are_those_of_the_real_set(real_images: Path) -> None:
    for split in ("train", "test"):
        for name, names in (("cifar10", official.CIFAR10), ("cifar100", official.CIFAR100)):
            folders = {p.name for p in (real_images / name / split).iterdir() if p.is_dir()}
            assert folders == set(names)
    table = real_images / "cifar100" / "classes.csv"
    if not table.exists():
        pytest.skip("the images come without classes.csv")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(row["fine_name"] for row in rows) == official.CIFAR100
    coarse = [official.CIFAR100_COARSE[label] for label in official.CIFAR100_COARSE_OF_FINE]
    assert [row["coarse_name"] for row in rows] == coarse
    assert [int(row["coarse_label"]) for row in rows] == list(official.CIFAR100_COARSE_OF_FINE)
