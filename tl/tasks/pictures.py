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
from tl.tasks.class_figures import accuracy_figure, confusion_figure, confusion_image, label_figure
from tl.tasks.class_targets import MISSING
from tl.tasks.confusion import Confusion, label_table
from tl.tasks.figures import drawable, drawable_part, examples_figure, scatter_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_POINTS = 2000  # of a scatter plot


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
        """Return figures by a word for what they show, such as ``confusion``.

        Args:
            view: Title, class names and statistics.
        """

    def quick(self, view: View) -> dict[str, Figure | Tensor]:
        """Return what to show between epochs: images ``(3, H, W)`` where a figure takes long.

        By default these are the figures.

        Args:
            view: Title, class names and statistics.
        """
        return {**self.figures(view)}

    def tables(self, view: View) -> dict[str, Table]:
        """Return tables by a word for what they show, such as ``classes``; by default none.

        Args:
            view: Title, class names and statistics.
        """
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


def class_tables(counts: Tensor, view: View, unit: str = "samples") -> dict[str, Table]:
    """Return ``confused``, the pairs most often confused, and ``classes``, the worst first.

    Args:
        counts: ``(C, C)``, rows true, columns predicted.
        view: Class names.
        unit: What is counted.
    """
    if not int(counts.sum()):
        return {}
    found = Confusion(counts, view.class_names(len(counts)), view.title)
    classes = sorted(
        (row for row in found.per_class() if row["samples"]), key=lambda row: row["accuracy"]
    )
    tables = {"confused": found.most_confused(20), "classes": Table(classes)}
    return {
        what: Table({unit if key == "samples" else key: row[key] for key in row} for row in table)
        for what, table in tables.items()
        if len(table)
    }


class ClassPictures(Pictures):
    """Confusion matrix, and the most confident wrong predictions.

    Args:
        num_classes: Number of classes.
        most: Maximum number of mistakes to keep.
    """

    counts: Tensor

    def __init__(self, num_classes: int, most: int) -> None:
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.worst = Worst(most)

    def add(self, inputs: Inputs | None, output: Tensor, target: Tensor) -> None:
        """Add logits ``(N, C)`` and class indices ``(N,)``, negative if unlabelled."""
        confidence, predicted = output.float().softmax(1).max(1)
        labelled = target >= 0
        pairs = target[labelled] * self.num_classes + output.argmax(1)[labelled]
        counts = torch.bincount(pairs, minlength=self.num_classes**2)
        self.counts = self.counts.to(counts.device) + counts.view_as(self.counts)
        wrong = (predicted != target) & labelled
        self.worst.add(inputs, torch.where(wrong, confidence, 0.0), output, target)

    def figures(self, view: View) -> dict[str, Figure]:
        """Return ``confusion``, ``classes`` and ``mistakes``; nothing if no sample is labelled."""
        if not int(self.counts.sum()):
            return {}
        names = view.class_names(self.num_classes)
        return {
            "confusion": confusion_figure(self.counts, names, view.title),
            "classes": accuracy_figure(self.counts, names, view.title),
            **self._mistakes(view),
        }

    def quick(self, view: View) -> dict[str, Figure | Tensor]:
        """Return the same with the matrix as an image without names."""
        if not int(self.counts.sum()):
            return {}
        return {"confusion": confusion_image(self.counts), **self._mistakes(view)}

    def tables(self, view: View) -> dict[str, Table]:
        """Return ``confused`` and ``classes``, the worst first; nothing without labels."""
        return class_tables(self.counts, view)

    def _mistakes(self, view: View) -> dict[str, Figure]:
        names = view.class_names(self.num_classes)

        def caption(output: Tensor, target: Tensor) -> str:
            chance, predicted = output.float().softmax(0).max(0)
            true, found = (drawable(names[int(number)]) for number in (target, predicted))
            return f"{true}\n→ {found}\n{float(chance):.0%}"

        return self.worst.figures(view, caption)


class LabelPictures(Pictures):
    """Precision, recall and F1 of each label, and the samples with the worst labels.

    A label is predicted if its probability is above 0.5. A sample is as bad as its worst wrong
    label, by the distance of the probability to the truth.

    Args:
        num_classes: Number of labels.
        most: Maximum number of samples to keep.
    """

    counts: Tensor

    def __init__(self, num_classes: int, most: int) -> None:
        self.counts = torch.zeros(3, num_classes, dtype=torch.int64)
        self.worst = Worst(most)

    def add(self, inputs: Inputs | None, output: Tensor, target: Tensor) -> None:
        """Add logits ``(N, C)`` and labels ``(N, C)``: 0, 1, negative if unknown."""
        chances = output.float().sigmoid()
        found, known = chances > 0.5, target != MISSING  # noqa: PLR2004 - more likely than not
        there = target == 1
        counts = [found & there, found & ~there & known, ~found & there]
        sums = torch.stack([part.sum(0) for part in counts])
        self.counts = self.counts.to(sums.device) + sums
        distance = (chances - target).abs().masked_fill((found == there) | ~known, 0.0)
        self.worst.add(inputs, distance.amax(1), output, target)

    def figures(self, view: View) -> dict[str, Figure]:
        """Return ``labels`` and ``mistakes``; nothing if no label occurs or is predicted."""
        if not int(self.counts.sum()):
            return {}
        names = view.class_names(self.counts.shape[1])

        def caption(output: Tensor, target: Tensor) -> str:
            found = output > 0
            said = {
                "missed": (target == 1) & ~found,
                "wrong": (target == 0) & found,
            }
            lines = (
                f"{what}: " + ", ".join(drawable(names[i]) for i in part.nonzero().flatten())
                for what, part in said.items()
                if part.any()
            )
            return "\n".join(lines)

        bars = label_figure(self.counts, names, view.title)
        return {"labels": bars, **self.worst.figures(view, caption)}

    def tables(self, view: View) -> dict[str, Table]:
        """Return ``labels``; nothing if no label occurs or is predicted."""
        if not int(self.counts.sum()):
            return {}
        return {"labels": label_table(self.counts, view.class_names(self.counts.shape[1]))}


class NumberPictures(Pictures):
    """Predictions against targets, and the samples with the largest errors.

    If there are too many points, a random subset of those in this process is drawn.

    Args:
        most: Maximum number of samples to keep.
    """

    def __init__(self, most: int) -> None:
        self.worst = Worst(most)
        self._points: Tensor | None = None  # (N, 1 + 2 K): a random number, predictions, truth
        self._random = torch.Generator().manual_seed(0)

    def add(self, inputs: Inputs | None, output: Tensor, target: Tensor) -> None:
        """Add numbers ``(N, K)``, NaN if missing."""
        numbers, target = output.detach().float().cpu(), target.float().cpu()
        drawn = torch.rand(len(numbers), 1, generator=self._random)
        points = torch.cat([drawn, numbers, target], 1)[~target.isnan().all(1)]
        if self._points is not None:
            points = torch.cat([self._points, points])
        self._points = points[points[:, 0].argsort()[:_POINTS]]
        errors = (numbers - target).abs().nan_to_num(0.0).amax(1)
        self.worst.add(inputs, errors, numbers, target)

    def figures(self, view: View) -> dict[str, Figure]:
        """Return ``scatter`` and ``mistakes``; nothing if no number is known."""
        if self._points is None or not len(self._points):
            return {}
        predicted, true = self._points[:, 1:].chunk(2, 1)

        def caption(output: Tensor, target: Tensor) -> str:
            said = ("; ".join(f"{value:.3g}" for value in part) for part in (target, output))
            return "{}\n→ {}".format(*said)

        points = scatter_figure(predicted, true, view.title)
        return {"scatter": points, **self.worst.figures(view, caption)}
