"""Which classes a model confuses, and the scores of each class or label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from tl.counting import counted
from tl.report.frame import Table
from tl.tasks.class_figures import confusion_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Confusion:
    """How often samples of each class are predicted as each class.

    Args:
        counts: ``(C, C)`` int64, rows true, columns predicted.
        names: The class names.
        title: Title of the plot.

    Attributes:
        counts: As given, on the CPU.
        names: As given.
    """

    def __init__(self, counts: Tensor, names: Sequence[str], title: str) -> None:
        self.counts, self.names, self._title = counts.cpu(), list(names), title

    @property
    def accuracy(self) -> float:
        """Fraction of the samples that are predicted right; NaN without samples."""
        right, there, _ = self._sums()
        return float(right.sum() / there.sum())

    @property
    def f1(self) -> float:
        """F1 score averaged over the classes that occur or are predicted; NaN if none is.

        ``2 tp / (2 tp + fp + fn)`` by class, as scikit-learn's ``f1_score(average="macro")``.
        """
        right, there, said = self._sums()
        seen = there + said > 0
        return float((2 * right[seen] / (there + said)[seen]).mean())

    def per_class(self) -> Table:
        """Return number of samples, accuracy (= recall), precision and F1 of each class.

        A value without anything to divide by is ``None``.
        """
        parts = [part.tolist() for part in self._sums()]
        return Table(
            {"class": name, "samples": int(there)} | class_scores("accuracy", right, there, said)
            for name, right, there, said in zip(self.names, *parts, strict=True)
        )

    def most_confused(self, count: int = 10) -> Table:
        """Return the pairs of classes that are confused most often, in one direction each.

        Args:
            count: Maximum number of pairs.

        Returns:
            ``true``, ``predicted``, ``samples``, and their ``share`` of the true class.
        """
        wrong = self.counts.clone().fill_diagonal_(0)
        totals = self.counts.sum(1).tolist()
        pairs = [
            (number, true, predicted)
            for true, row in enumerate(wrong.tolist())
            for predicted, number in enumerate(row)
            if number
        ]
        pairs.sort(key=lambda pair: (-pair[0], -pair[0] / totals[pair[1]], pair[1:]))
        rows = [
            {
                "true": self.names[true],
                "predicted": self.names[predicted],
                "samples": number,
                "share": number / totals[true],
            }
            for number, true, predicted in pairs[:count]
        ]
        return Table(rows, ["true", "predicted", "samples", "share"])

    def plot(self) -> Figure:
        """Draw the matrix, each row as fractions of its true class; a notebook shows it."""
        return confusion_figure(self.counts, self.names, self._title)

    def __repr__(self) -> str:
        """Describe it in a line."""
        total, wrong = int(self.counts.sum()), int(self.counts.sum() - self.counts.trace())
        return f"Confusion({len(self.names)} classes, {counted(total, 'sample')}, {wrong} wrong)"

    def _sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return by class how many are right, how many there are, and how many are predicted."""
        counts = self.counts.double()
        return counts.diagonal(), counts.sum(1), counts.sum(0)


def class_scores(recall: str, right: int, there: int, said: int) -> dict[str, float | None]:
    """Return recall, precision and F1 of a class; ``None`` where there is nothing to divide by.

    Args:
        recall: What recall is called.
        right: Samples of the class that are predicted as it.
        there: Samples of the class.
        said: Samples that are predicted as it.
    """
    return {
        recall: right / there if there else None,
        "precision": right / said if said else None,
        "f1": 2 * right / (there + said) if there + said else None,
    }


def label_table(counts: Tensor, names: Sequence[str]) -> Table:
    """Return number of samples, recall, precision and F1 of each label.

    Args:
        counts: ``(3, C)``: true positives, false positives and false negatives of each label.
        names: Names of the labels.
    """
    rows = []
    for name, right, wrong, missed in zip(names, *counts.cpu().tolist(), strict=True):
        there, said = right + missed, right + wrong
        scores = class_scores("recall", right, there, said)
        rows.append({"label": name, "samples": there, **scores})
    return Table(rows)
