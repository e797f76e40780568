"""Pictures of classes and of labels: who is confused with whom, and the worst samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tl.batch import Inputs
from tl.report.frame import Table
from tl.tasks.class_figures import accuracy_figure, confusion_figure, confusion_image, label_figure
from tl.tasks.class_targets import MISSING
from tl.tasks.confusion import Confusion, label_table
from tl.tasks.figures import drawable
from tl.tasks.pictures import Pictures, View, Worst

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
            said = {"missed": (target == 1) & ~found, "wrong": (target == 0) & found}
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
