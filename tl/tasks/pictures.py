"""Pictures of a task's predictions for TensorBoard: collected by batch, drawn at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tl.batch import Inputs
from tl.report.frame import Table
from tl.tasks.figures import drawable_part, examples_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class View:
    """What figures need besides predictions and targets.

    Attributes:
        title: Title.
        names: Class names, if the data have them.
        statistics: Mean and standard deviation per channel that images were normalised by.
    """

    title: str
    names: Sequence[str] | None = None
    statistics: tuple[Tensor, Tensor] | None = None

    def class_names(self, count: int) -> list[str]:
        """Return the names of `count` classes, or their indices."""
        fits = self.names is not None and len(self.names) == count
        return list(self.names or ()) if fits else [str(number) for number in range(count)]


class Pictures(ABC):
    """Collects the pictures of a task over a split; see :meth:`tl.tasks.Task.pictures`.

    Attributes:
        counts: Sums over samples, which are added up over all processes before drawing; ``None`` if
            there are none. They have the same shape in all processes, even without any sample.
    """

    counts: Tensor | None = None

    @abstractmethod
    def add(self, inputs: Inputs | None, output: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            inputs: Inputs of the network; ``None`` if no samples are to be shown.
            output: Output of the head, one row per sample.
            target: Targets from :meth:`tl.tasks.Task.truth`.
        """

    @abstractmethod
    def figures(self, view: View) -> dict[str, Figure]:
        """Return figures by a word for what they show, such as ``confusion``."""

    def quick(self, view: View) -> dict[str, Figure | Tensor]:
        """Return what to show between epochs: images ``(3, H, W)`` where a figure takes long.

        By default these are the figures.
        """
        return {**self.figures(view)}

    def tables(self, view: View) -> dict[str, Table]:
        """Return tables by a word for what they show, such as ``classes``; by default none."""
        del view
        return {}


class Worst:
    """The samples with the worst predictions.

    Args:
        most: Maximum number to keep.

    Attributes:
        kept: How bad a prediction is, output, target, and sample, the worst first.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.kept: list[tuple[float, Tensor, Tensor, Tensor]] = []

    def add(self, inputs: Inputs | None, badness: Tensor, output: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            inputs: Inputs of the network; nothing is kept if they cannot be drawn.
            badness: How bad each prediction is ``(N,)``; 0 or less hides it.
            output: ``(N, ...)``.
            target: ``(N, ...)``.
        """
        samples = None if inputs is None or not self.most else drawable_part(inputs)
        if samples is None:
            return
        values, rows = badness.topk(min(self.most, len(badness)))
        least = self.kept[-1][0] if len(self.kept) == self.most else 0.0
        for value, row in zip(values.tolist(), rows.tolist(), strict=True):
            if value > max(least, 0.0):
                parts = (part[row].detach().cpu() for part in (output, target, samples))
                self.kept.append((value, *parts))
        self.kept = sorted(self.kept, key=lambda kept: -kept[0])[: self.most]

    def figures(self, view: View, caption: Callable[[Tensor, Tensor], str]) -> dict[str, Figure]:
        """Draw them as ``mistakes``, each with a caption built from output and target."""
        # samples of another shape cannot share a figure with the worst one
        kept = [one for one in self.kept if one[3].shape == self.kept[0][3].shape]
        if not kept:
            return {}
        samples = torch.stack([sample for *_, sample in kept])
        captions = [caption(output, target) for _, output, target, _ in kept]
        return {"mistakes": examples_figure(samples, captions, view.statistics, view.title)}
