"""Synthetic images as a data source, and the warning shown when they replace real ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.text import Text

from tl.data.base import ImageDataModule
from tl.data.images.resident import ResidentDataset, mixed_seed
from tl.data.split import Split
from tl.data.synthetic.drawing import draw_images
from tl.data.synthetic.vocabulary import DrawnClasses, drawn_classes

TargetChoice = Literal["fine", "coarse", "both"]


@dataclass(kw_only=True, eq=False)
class GeneratedDataModule(ImageDataModule):
    """Synthetic images: textured shapes in front of clutter, generated from a seed.

    They need no download and have a known structure, which makes them a test bed for transfer: see
    `tl.data.synthetic.drawing.draw_images` for content and difficulty.

    Args:
        classes: Size of the class set, 10 or 100.
        train_size: Number of training images, including validation, default 5,000.
        test_size: Number of test images, default 1,000.
        targets: Labels: ``fine`` classes, their ``coarse`` groups, or ``both``.
        relatedness: Fraction of its shapes and textures, 0 to 1, that the 10-class set shares with
            the 100-class set.
        draw_seed: Seed of the pixels, separate from ``seed``, so that runs with different seeds see
            the same images.

    Raises:
        ValueError: If there are fewer images than classes, or `relatedness` is out of range.
    """

    classes: Literal[10, 100] = 10
    train_size: int = 5000
    test_size: int = 1000
    targets: TargetChoice = "fine"
    relatedness: float = 1.0
    draw_seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("train_size", "test_size"):
            if getattr(self, name) < self.classes:
                raise ValueError(
                    f"`{name}` must be at least the number of classes, {self.classes}, got "
                    f"{getattr(self, name)}."
                )
        drawn_classes(self.classes, self.relatedness)  # raise early

    def _default_name(self) -> str:
        return f"generated{self.classes}"

    def kind(self) -> str:
        """Return ``generated``."""
        return "generated"

    def target_classes(self) -> dict[str, tuple[str, ...]]:
        """Class names by target."""
        return named_targets(drawn_classes(self.classes, self.relatedness), self.targets)

    def strata(self) -> tuple[str, tuple[str, ...]]:
        """Fine classes, whichever labels are requested."""
        return "fine", drawn_classes(self.classes, self.relatedness).names

    def load(self, split: Split) -> ResidentDataset:
        """Generate one split."""
        return draw_split(
            split,
            self.classes,
            self.train_size if split == "train" else self.test_size,
            relatedness=self.relatedness,
            seed=self.draw_seed,
        )


def draw_split(
    split: Split,
    classes: Literal[10, 100],
    size: int,
    *,
    relatedness: float = 1.0,
    seed: int = 0,
) -> ResidentDataset:
    """Generate a split of `size` images, balanced over classes, with fine and coarse labels."""
    labels = torch.arange(size) % classes
    images = draw_images(
        labels, classes, seed=mixed_seed("draw", split, seed), relatedness=relatedness
    )
    groups = torch.tensor(drawn_classes(classes, relatedness).coarse_of_fine)
    return ResidentDataset(images, {"fine": labels, "coarse": groups[labels]})


def named_targets(classes: DrawnClasses, targets: TargetChoice) -> dict[str, tuple[str, ...]]:
    """Class names by target."""
    both = {"fine": classes.names, "coarse": classes.coarse_names}
    return both if targets == "both" else {targets: both[targets]}


@rank_zero_only
def show_banner(message: str) -> None:
    """Print a warning on standard error, on one line, so that it is found by a search."""
    # plain text: a path in the message may look like markup
    line = Text(f"GENERATED IMAGES: {message}", style="bold yellow")
    Console(stderr=True).print(line, soft_wrap=True)
