"""What TensorBoard shows of answers for pixels: image, truth, answer and error side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from tl.batch import Inputs
from tl.report.frame import Table
from tl.tasks.class_figures import confusion_figure
from tl.tasks.class_pictures import class_tables
from tl.tasks.figures import drawable_part
from tl.tasks.map_figures import maps_figure, shares_figure
from tl.tasks.pictures import Pictures, View, Worst

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROWS = 4  # samples of a figure: a row each


class Drawn(NamedTuple):
    """How maps of a kind are drawn.

    Attributes:
        maps: Targets or answers to colours ``(N, H, W, 3)`` in [0, 1] or to numbers ``(N, H, W)``,
            NaN where there is none.
        error: Answers and targets to errors ``(N, H, W)``, NaN where there is no target.
        unit: What errors are, such as ``angle, degrees``.
        most: Error that has the last colour; ``None`` takes the largest that is shown.
        classes: How many classes have a colour, for a key.
    """

    maps: Callable[[Tensor], Tensor]
    error: Callable[[Tensor, Tensor], Tensor]
    unit: str
    most: float | None = None
    classes: int | None = None


@dataclass
class _First:
    """The first samples of a split with a target: the same ones after every epoch."""

    most: int

    def __post_init__(self) -> None:
        self.kept: list[tuple[float, Tensor, Tensor, Tensor]] = []

    def add(self, samples: Tensor, answer: Tensor, target: Tensor, error: Tensor) -> None:
        """Keep what there is room for."""
        for row in error.flatten(1).isfinite().any(1).nonzero().flatten().tolist():
            if len(self.kept) == self.most:
                return
            a, t, s = (part[row].detach().cpu() for part in (answer, target, samples))
            self.kept.append((0.0, a, t, s))


class MapPictures(Pictures):
    """Image, truth, answer and error: of the first samples, and of those with the largest errors.

    Args:
        drawn: How they are drawn.
        answer: Outputs of the head to answers.
        most: How many samples of each to show, up to four.
    """

    def __init__(self, drawn: Drawn, answer: Callable[[Tensor], Tensor], most: int) -> None:
        self.drawn, self.answer = drawn, answer
        self.first, self.worst = _First(min(most, _ROWS)), Worst(min(most, _ROWS))

    def add(self, inputs: Inputs | None, output: Tensor, target: Tensor) -> None:
        """Look at outputs and targets ``(N, C, H, W)`` or ``(N, H, W)``."""
        samples = None if inputs is None or not self.first.most else drawable_part(inputs)
        if samples is None:
            return
        answer = self.answer(output)
        error = self.drawn.error(answer, target).float()
        self.first.add(samples, answer, target, error)
        means = error.flatten(1).nanmean(1).nan_to_num(0.0)
        self.worst.add(inputs, means, answer, target)

    def figures(self, view: View) -> dict[str, Figure]:
        """Return ``maps`` and ``mistakes``; nothing where no pixel has a target."""
        found = {"maps": self.first.kept, "mistakes": self.worst.kept}
        return {name: self._figure(kept, view) for name, kept in found.items() if kept}

    def _figure(self, kept: list[tuple[float, Tensor, Tensor, Tensor]], view: View) -> Figure:
        # what sources of other sizes gave cannot share a figure
        same = [one for one in kept if one[3].shape == kept[0][3].shape]
        parts = zip(*((answer, target, sample) for _, answer, target, sample in same), strict=True)
        answer, target, samples = (torch.stack(part) for part in parts)
        classes = self.drawn.classes
        truth, shown = (self.drawn.maps(part) for part in (target, answer))
        return maps_figure(
            (samples, truth, shown, self.drawn.error(answer, target).float()),
            view.statistics,
            view.title,
            error=(self.drawn.unit, self.drawn.most),
            names=None if classes is None else view.class_names(classes),
        )


def ious(counts: Tensor) -> Tensor:
    """Return the IoU of each class ``(C,)`` of a confusion ``(C, C)``; NaN if it does not occur."""
    right = counts.diagonal().double()
    return right / (counts.sum(0) + counts.sum(1) - right)


class SegmentationPictures(MapPictures):
    """Maps, IoU of each class, and the confusion matrix of all pixels.

    Args:
        drawn: How maps are drawn.
        answer: Outputs of the head to answers.
        confusion: Counts ``(C, C)`` by true and predicted class, of outputs and targets.
        num_classes: Number of classes.
        most: How many samples to show.
    """

    counts: Tensor

    def __init__(
        self,
        drawn: Drawn,
        answer: Callable[[Tensor], Tensor],
        confusion: Callable[[Tensor, Tensor], Tensor],
        num_classes: int,
        most: int,
    ) -> None:
        super().__init__(drawn, answer, most)
        self._confusion = confusion
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def add(self, inputs: Inputs | None, output: Tensor, target: Tensor) -> None:
        """Look at logits ``(N, C, H, W)`` and class numbers ``(N, H, W)``, -1 without one."""
        counts = self._confusion(output, target)
        self.counts = self.counts.to(counts.device) + counts
        super().add(inputs, output, target)

    def figures(self, view: View) -> dict[str, Figure]:
        """Return ``iou``, ``confusion``, ``maps`` and ``mistakes``."""
        if not int(self.counts.sum()):
            return {}
        names = view.class_names(len(self.counts))
        return {
            "iou": shares_figure(ious(self.counts.cpu()), names, "IoU", view.title),
            "confusion": confusion_figure(self.counts, names, view.title),
            **super().figures(view),
        }

    def tables(self, view: View) -> dict[str, Table]:
        """Return ``confused`` and ``classes``, in pixels; nothing without labels."""
        return class_tables(self.counts, view, "pixels")
