"""Which classes train, validate and test in few-shot learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from tl.data.cifar.classes import CIFAR100, CIFAR100_COARSE, CIFAR100_COARSE_OF_FINE
from tl.data.errors import listed
from tl.reading import read_yaml

Part = Literal["train", "val", "test"]
_PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class ClassSplit:
    """Disjoint classes by part.

    Args:
        name: Its name.
        train: Names of the classes that a network may be trained on.
        val: Of those that choose it.
        test: Of those that it is judged by.
    """

    name: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def part(self, name: Part) -> tuple[str, ...]:
        """Return the classes of a part."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]


_FS_TEST = """baby bed bicycle chimpanzee fox leopard man pickup_truck plain poppy rocket rose snail
    sweet_pepper table telephone wardrobe whale woman worm"""
_FS_VAL = """beaver beetle butterfly camel cattle crab crocodile flatfish lamp maple_tree motorcycle
    otter sea shark television tractor"""
_FC_TEST = ("aquatic_mammals", "insects", "medium_mammals", "people")
_FC_TRAIN = (
    *("fish", "flowers", "food_containers", "fruit_and_vegetables"),
    *("household_electrical_devices", "household_furniture", "large_man-made_outdoor_things"),
    *("large_natural_outdoor_scenes", "reptiles", "trees", "vehicles_1", "vehicles_2"),
)


def cifar_fs() -> ClassSplit:
    """Return CIFAR-FS (Bertinetto et al., 2019, arXiv:1805.08136): 64, 16 and 20 classes."""
    test, val = tuple(_FS_TEST.split()), tuple(_FS_VAL.split())
    train = tuple(name for name in CIFAR100 if name not in (*test, *val))
    return ClassSplit("cifar-fs", train, val, test)


def fc100() -> ClassSplit:
    """Return FC100 (Oreshkin et al., 2018, arXiv:1805.10123): 60, 20 and 20, by superclass."""
    val = tuple(g for g in CIFAR100_COARSE if g not in (*_FC_TEST, *_FC_TRAIN))
    return ClassSplit("fc100", *(_of_groups(groups) for groups in (_FC_TRAIN, val, _FC_TEST)))


def _of_groups(groups: Sequence[str]) -> tuple[str, ...]:
    both = zip(CIFAR100, CIFAR100_COARSE_OF_FINE, strict=True)
    return tuple(name for name, group in both if CIFAR100_COARSE[group] in groups)


SPLITS = {"cifar-fs": cifar_fs, "fc100": fc100}


def read_split(given: str) -> ClassSplit:
    """Return a split by its name, or from a YAML file with lists ``train``, ``val`` and ``test``.

    Args:
        given: ``cifar-fs``, ``fc100``, or a file, of which ``test`` alone is needed.

    Raises:
        ValueError: If it is unknown or unreadable, or a class is in two parts.
    """
    if given in SPLITS:
        return SPLITS[given]()
    try:
        content = read_yaml(Path(given))
    except FileNotFoundError:
        known = ", ".join(SPLITS)
        raise ValueError(f"There is no split {given!r}; choose {known}, or a YAML file.") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"The split {given} cannot be read as YAML in UTF-8: {said}") from None
    if not isinstance(content, Mapping) or not set(content) <= set(_PARTS):
        raise ValueError(f"{given} must hold lists of class names under train, val and test.")
    parts: dict[str, tuple[str, ...]] = {}
    for name in _PARTS:
        parts[name] = _names(content.get(name) or [], f"{given}: {name!r}")
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        if both := sorted({*parts[one]} & {*parts[other]}):
            raise ValueError(f"{given}: {listed(both)} stands in both {one!r} and {other!r}.")
    if not parts["test"]:
        raise ValueError(f"{given} names no class under 'test'.")
    return ClassSplit(Path(given).stem, parts["train"], parts["val"], parts["test"])


def _names(names: object, where: str) -> tuple[str, ...]:
    if not isinstance(names, list) or len(set(map(str, names))) < len(names):
        raise ValueError(f"{where} must be a list of different class names.")
    for each in names:
        if isinstance(each, bool) or not isinstance(each, str | int):
            raise ValueError(  # noqa: TRY004 - the content of a file
                f"{where} holds {each!r}, which is not a class name; YAML reads words as no and "
                "null as names only in quotes."
            )
    return tuple(map(str, names))
