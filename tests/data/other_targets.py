"""A source of images whose targets are numbers, several labels, maps, or classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tl.data import GeneratedDataModule, ImageDataModule
from tl.data.images.resident import ResidentDataset
from tl.data.split import Split
from tl.tasks import Classification, Regression, Segmentation, Task


def other_targets(count: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "age": torch.rand(count, generator=generator),
        "signs": torch.randint(0, 2, (count, 4), generator=generator),
        "surface": torch.randint(0, 3, (count, 32, 32), generator=generator),
    }


OTHER: dict[str, tuple[Task, tuple[str, ...]]] = {
    "age": (Regression("age", target="age"), ()),
    "signs": (Classification("signs", 4, target="signs", multi_label=True), ("a", "b", "c", "d")),
    "surface": (Segmentation("surface", 3, target="surface"), ("wall", "floor", "sky")),
    "fine": (Classification("fine", 10, target="fine"), tuple("0123456789")),
}


class Others(GeneratedDataModule):
    """Synthetic images with targets of other kinds than classes."""

    reads: tuple[str, ...] = ()

    def load(self, split: Split) -> ResidentDataset:
        found = super().load(split)
        found.all_targets |= other_targets(len(found))
        return found

    def target_classes(self) -> dict[str, tuple[str, ...]]:
        return {name: OTHER[name][1] for name in self.reads}

    def strata(self) -> tuple[str, tuple[str, ...]]:
        return ImageDataModule.strata(self)

    @property
    def tasks(self) -> tuple[Task, ...]:
        return tuple(OTHER[name][0] for name in self.reads)


def others(*names: str, **settings: Any) -> Others:
    class Reading(Others):
        reads = names

    return Reading(**{"train_size": 200, "test_size": 20, "batch_size": 50, **settings})
