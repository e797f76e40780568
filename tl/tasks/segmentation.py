"""Semantic segmentation: a class for each pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric

from tl.tasks.base import Direction
from tl.tasks.class_targets import MISSING
from tl.tasks.map_pictures import Drawn, SegmentationPictures, ious
from tl.tasks.palette import class_colours, palette
from tl.tasks.pictures import Pictures
from tl.tasks.pixels import DECODER, MapFile, PixelSums, PixelTask

_PALETTE = 256  # classes that a palette has colours for


@dataclass(frozen=True)
class Segmentation(PixelTask):
    """A class for each pixel, with cross-entropy, mean intersection over union and accuracy.

    Targets are class indices ``(N, H, W)`` of any integer type, -1 if missing. The mean IoU is over
    the classes that occur among the targets or the predictions of the whole split.

    Args:
        name: Name in metrics (``val/<name>/miou``) and heads; letters, digits, ``_`` and ``-``.
        num_classes: Number of classes, at least 2.
        class_weights: Weight of each class in the loss, 0 or more; the sum over the pixels is still
            divided by their number. By default all are 1.
        decoder: Class path of the head, such as ``tl.tasks.decoders.DeepLab``.
        width: Channels within the head; ``None`` is the default of its class.
        source: Name of the data source that the task reads in a batch of several.
        target: Key of the targets in a source that has several.
        shares: Name of another task whose head this one uses, for instance in a second domain.
        trains: Whether the task trains; if not, it is only evaluated.

    Raises:
        ValueError: If there are fewer than 2 classes, or weights do not fit them.
    """

    name: str
    num_classes: int
    class_weights: tuple[float, ...] | None = None
    decoder: str = DECODER
    width: int | None = None
    source: str | None = None
    target: str | None = None
    shares: str | None = None
    trains: bool = True
    kind: ClassVar[str] = "segmentation"
    score: ClassVar[str] = "miou"
    higher_is_better: ClassVar[bool] = True
    directions: ClassVar[Mapping[str, Direction]] = {"miou": "max", "acc": "max"}
    tallied: ClassVar[tuple[str, ...]] = ("acc",)
    accuracy: ClassVar[str | None] = "acc"
    columns: ClassVar[tuple[str, ...]] = ("classes",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_classes < 2:  # noqa: PLR2004 - one class cannot be told apart
            raise ValueError(f"Task {self.name!r} needs at least 2 classes: {self.num_classes}.")
        if self.class_weights is None:
            return
        weights = tuple(float(weight) for weight in self.class_weights)
        object.__setattr__(self, "class_weights", weights)
        if len(weights) != self.num_classes or not all(0 <= w < float("inf") for w in weights):
            raise ValueError(
                f"The `class_weights` of task {self.name!r} must be {self.num_classes} numbers of "
                f"0 or more, got {list(weights)}."
            )

    @property
    def answers(self) -> str:
        """The number of classes, for pixels."""
        return f"{self.num_classes} classes of pixels"

    @property
    def channels(self) -> int:
        """One channel per class."""
        return self.num_classes

    @property
    def expected(self) -> str:
        """Class indices."""
        last = self.num_classes - 1
        return f"class indices 0 to {last}, -1 if missing, of shape (N, H, W)"

    def settle(self, target: object, *, checked: bool = False) -> Tensor:
        """Return class indices ``(N, H, W)`` as int64, -1 if missing."""
        found = self._maps(target, None)
        if found.is_floating_point():
            found = found.nan_to_num(nan=MISSING, posinf=self.num_classes, neginf=MISSING - 1)
            if not checked:
                self.refuse(found != found.trunc(), "a fraction")
        found = found.long()
        if not checked:
            self.refuse(found >= self.num_classes, "above the last class")
            self.refuse(found < MISSING, "below -1")
        return found

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean over all labelled pixels of logits ``(N, num_classes, H, W)``."""
        weight = None if self.class_weights is None else output.new_tensor(self.class_weights)
        total = functional.cross_entropy(
            output, target, weight=weight, ignore_index=MISSING, reduction="sum"
        )
        return total / self.present(target).clamp(min=1)

    def present(self, target: Tensor) -> Tensor:
        """Return how many pixels are labelled."""
        return (target != MISSING).sum()

    def tally(self, output: Tensor, target: Tensor) -> list[Tensor]:
        """Return the number of correctly classified pixels."""
        return [(output.argmax(1) == target).sum()]

    def scores(self) -> dict[str, Metric]:
        """Return mean intersection over union and pixel accuracy."""
        return {"miou": MeanIoU(self.num_classes), "acc": PixelAccuracy(self.num_classes)}

    def observe(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        """Update a metric with the confusion matrix of a batch."""
        metric.update(self.confusion(output, target))

    def answer(self, output: Tensor) -> Tensor:
        """Return class indices ``(N, H, W)``."""
        return output.argmax(1)

    def cells(self, answer: Tensor, names: Sequence[str] | None) -> list[dict[str, str]]:
        """Return the fraction of pixels of each class that occurs, the largest first."""
        found = []
        for each in answer.cpu():
            shares = torch.bincount(each.flatten(), minlength=self.num_classes) / each.numel()
            order = [int(c) for c in shares.argsort(descending=True, stable=True) if shares[c] > 0]
            said = [f"{names[c] if names else c} {float(shares[c]):.4f}" for c in order]
            found.append({"classes": "; ".join(said)})
        return found

    def pictures(self, most: int) -> Pictures | None:
        """Return maps side by side, the IoU of each class and the confusion of pixels."""
        colours = partial(class_colours, count=self.num_classes)
        drawn = Drawn(colours, _wrong, "wrong", most=1.0, classes=self.num_classes)
        return SegmentationPictures(drawn, self.answer, self.confusion, self.num_classes, most)

    def map_file(self, answer: Tensor) -> MapFile:
        """Return class numbers as an image with a palette, as numbers beyond 256 classes."""
        return MapFile(answer, palette(self.num_classes) if self.num_classes <= _PALETTE else None)

    def confusion(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the confusion matrix ``(C, C)``, true by predicted class."""
        known = target != MISSING
        pairs = target[known] * self.num_classes + output.argmax(1)[known]
        return torch.bincount(pairs, minlength=self.num_classes**2).view(self.num_classes, -1)


def _wrong(answer: Tensor, target: Tensor) -> Tensor:
    """Return 1 where class numbers ``(N, H, W)`` differ, NaN without a target."""
    return torch.where(target == MISSING, torch.nan, (answer != target).float())


class Confusion(PixelSums):
    """Confusion matrix of pixels, true by predicted class.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__((num_classes, num_classes), torch.int64)

    def update(self, counts: Tensor) -> None:
        """Add counts ``(C, C)``."""
        self.sums = self.sums + counts


class MeanIoU(Confusion):
    """Mean intersection over union over the classes that occur; NaN without any.

    A class that occurs neither among the targets nor the predictions is left out: counted as 0, as
    in torchmetrics, it would penalise small splits.
    """

    def compute(self) -> Tensor:
        """Return the mean, a scalar."""
        found = ious(self.sums).float()
        return found[~found.isnan()].mean()


class PixelAccuracy(Confusion):
    """Fraction of correctly classified pixels."""

    def compute(self) -> Tensor:
        """Return the fraction, a scalar; NaN without any pixel."""
        counts = self.sums.double()
        return (counts.diagonal().sum() / counts.sum()).float()
