"""The 20 superclasses of CIFAR-100 as tasks of one source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from tl.data.cifar.cifar import CifarDataModule
from tl.data.errors import listed
from tl.data.images.resident import ImageDataset
from tl.data.split import Split
from tl.data.synthetic.generated import TargetChoice

_MISSING = -1


@dataclass(kw_only=True, eq=False)
class CifarSuperclassesDataModule(CifarDataModule):
    """CIFAR-100 as a task for each superclass: which of its five classes is it?

    An image has a label for the task of its own superclass, and none for the others. One source
    with 20 tasks, as in the auto-lambda benchmark (Liu et al., 2022, arXiv:2202.03091).

    Args:
        name: ``cifar100``.
        targets: ``fine``: the classes within a superclass.
        superclasses: Names of some of the 20, such as ``[trees, people]``: only their tasks and
            their images; by default all.

    Raises:
        ValueError: If a superclass does not exist or is named twice, or `name` or `targets` is
            another.
    """

    name: Literal["cifar10", "cifar100"] = field(default="cifar100", kw_only=False)
    targets: TargetChoice = "fine"
    superclasses: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name != "cifar100" or self.targets != "fine":
            raise ValueError(
                "Superclasses are tasks of `name: cifar100` with `targets: fine`, got "
                f"{self.name!r} and {self.targets!r}."
            )
        known = self._official().coarse_names
        if unknown := [name for name in self.superclasses or () if name not in known]:
            raise ValueError(f"`superclasses`: CIFAR-100 has no superclass {listed(unknown)}.")
        if len(set(self.superclasses or ())) != len(self.superclasses or ()):
            raise ValueError(f"`superclasses` names one twice: {listed(self.superclasses or ())}.")

    def _groups(self) -> list[int]:
        """Return the numbers of the superclasses that are tasks."""
        official = self._official().coarse_names
        return [official.index(name) for name in self.superclasses or official]

    def _members(self) -> dict[str, list[int]]:
        """Return the fine classes of each superclass, by number."""
        known = self._known()
        return {
            known.coarse_names[group]: [
                fine for fine, of in enumerate(known.coarse_of_fine) if of == group
            ]
            for group in self._groups()
        }

    def target_classes(self) -> dict[str, tuple[str, ...]]:
        """Class names by superclass."""
        names = self._known().names
        return {
            group: tuple(names[fine] for fine in members)
            for group, members in self._members().items()
        }

    def _kept(self) -> list[int]:
        """Return the fine classes of all tasks, by number, ascending."""
        return sorted(fine for members in self._members().values() for fine in members)

    def strata(self) -> tuple[str, tuple[str, ...]]:
        """Return the classes of all tasks together."""
        return "fine", tuple(self._known().names[fine] for fine in self._kept())

    def class_groups(self) -> dict[str, str]:
        """Return the superclass of each class by name."""
        return {name: group for group, names in self.target_classes().items() for name in names}

    def load(self, split: Split) -> ImageDataset:
        """Read one official split, with a label for the task of an image's own superclass."""
        data = super().load(split)
        fine = data.all_targets["fine"]
        targets = {}
        here = torch.zeros(len(fine), dtype=torch.bool)
        for group, members in self._members().items():
            number = torch.full((len(self._known().names),), _MISSING)
            number[members] = torch.arange(len(members))
            targets[group] = number[fine]
            here |= targets[group] != _MISSING
        kept = data.subset(here[data.index].nonzero().flatten())
        place = torch.full((len(self._known().names),), _MISSING)
        place[self._kept()] = torch.arange(len(self._kept()))
        kept.all_targets = {**targets, "fine": place[fine]}
        return kept

    def _checked(self, split: Split) -> ImageDataset:
        """Load a split; its labels follow from the official ones, which have been checked."""
        return self.load(split)
