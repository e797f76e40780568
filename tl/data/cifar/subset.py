"""Some classes of CIFAR."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tl.data.cifar.cifar import CifarDataModule
from tl.data.errors import listed
from tl.data.images.resident import ImageDataset
from tl.data.split import Split


@dataclass(kw_only=True, eq=False)
class CifarSubsetDataModule(CifarDataModule):
    """Some classes of CIFAR-10 or CIFAR-100, in the order given; images of others are left out.

    For few-shot learning, for instance, a network must be trained on some classes only.

    Args:
        classes: Names of two classes or more, such as ``[apple, pear]``. Of synthetic images, those
            classes are taken that stand in for them.

    Raises:
        ValueError: If a class does not exist or is named twice, or `targets` is not ``fine``.
    """

    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        names = self._official().names
        given = self.classes or ()
        if unknown := [name for name in given if name not in names]:
            raise ValueError(f"`classes`: {self.name} has no class {listed(unknown)}.")
        if len(set(given)) < len(given) or len(given) < 2:  # noqa: PLR2004
            raise ValueError(
                f"`classes` must name two different classes or more, got {listed(given) or 'none'}."
            )
        if self.targets != "fine":
            raise ValueError(f"`targets` of some classes must be 'fine', got {self.targets!r}.")

    def _chosen(self) -> list[int]:
        """Return the official numbers of the classes."""
        return [self._official().names.index(name) for name in self.classes or ()]

    def target_classes(self) -> dict[str, tuple[str, ...]]:
        """Class names: the chosen ones, or those of the synthetic images in their place."""
        [(target, names)] = super().target_classes().items()
        return {target: tuple(names[number] for number in self._chosen())}

    def strata(self) -> tuple[str, tuple[str, ...]]:
        """Return the chosen classes."""
        return "fine", self.target_classes()["fine"]

    def load(self, split: Split) -> ImageDataset:
        """Read one official split, and keep the images of the chosen classes."""
        return self._only_of(super().load(split), self._chosen())

    def _only_of(self, data: ImageDataset, chosen: list[int]) -> ImageDataset:
        """Return the images of some classes by their official numbers, numbered in this order."""
        number = torch.full((len(self._official().names),), -1)
        number[chosen] = torch.arange(len(chosen))
        kept = data.subset((number[data.targets["fine"]] >= 0).nonzero().flatten())
        # targets are those of all images, of which the subset picks
        kept.all_targets = {"fine": number[data.all_targets["fine"]]}
        return kept
