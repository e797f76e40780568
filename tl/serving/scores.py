"""How well a model answers: scores by task, by class, and which classes are confused."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tl.counting import counted
from tl.report.frame import Table
from tl.serving.answers import ByTask
from tl.tasks import Task
from tl.tasks.confusion import Confusion, label_table


class TaskScores:
    """The scores of one task over some data.

    Args:
        task: The task.
        samples: Number of labelled samples.
        values: Loss and scores by name.
        confusion: Which classes are confused, where each sample or pixel has one.
        labels: ``(3, C)``: true positives, false positives and false negatives of each label, where
            samples have any number of labels.
        names: Names of the classes or labels.

    Attributes:
        loss: Mean loss.
        scores: The scores by name, such as ``acc`` and ``f1``.
    """

    def __init__(
        self,
        task: Task,
        samples: int,
        values: Mapping[str, float],
        confusion: Confusion | None = None,
        labels: Tensor | None = None,
        names: list[str] | None = None,
    ) -> None:
        self.task, self.samples = task, samples
        self.loss = values["loss"]
        self.scores = {name: value for name, value in values.items() if name != "loss"}
        if confusion is not None:
            self.scores.setdefault("f1", confusion.f1)
        self._confusion, self._labels, self._names = confusion, labels, names or []

    @property
    def confusion(self) -> Confusion:
        """Which classes are confused.

        Raises:
            AttributeError: If samples do not have one class each.
        """
        if self._confusion is None:
            raise self._lacks("confusion matrix")
        return self._confusion

    @property
    def accuracy(self) -> float:
        """Fraction of samples that are predicted right; of pixels, for maps.

        Raises:
            AttributeError: If samples do not have one class each.
        """
        if self._confusion is None:
            raise self._lacks("accuracy")
        return self._confusion.accuracy

    @property
    def f1(self) -> float:
        """F1 score, averaged over classes or labels.

        Raises:
            AttributeError: If the task has neither.
        """
        if "f1" not in self.scores:
            raise self._lacks("F1 score")
        return self.scores["f1"]

    @property
    def per_class(self) -> Table:
        """Number of samples, accuracy (= recall), precision and F1 by class or label.

        Raises:
            AttributeError: If the task has neither.
        """
        if self._confusion is not None:
            return self._confusion.per_class()
        if self._labels is None:
            raise self._lacks("classes")
        return label_table(self._labels, self._names)

    def most_confused(self, count: int = 10) -> Table:
        """Return the pairs of classes that are confused most often.

        Args:
            count: Maximum number of pairs.

        Raises:
            AttributeError: If samples do not have one class each.
        """
        return self.confusion.most_confused(count)

    def _lacks(self, what: str) -> AttributeError:
        known = ", ".join(self.scores) or "its loss"
        return AttributeError(
            f"{self.task.name} answers {self.task.answers}, which has no {what}; it has {known}."
        )

    def __repr__(self) -> str:
        """Describe it in a line."""
        said = ", ".join(f"{name}={value:.4g}" for name, value in self.scores.items())
        return (
            f"TaskScores({self.task.name}: {said}, loss={self.loss:.4g}, "
            f"{counted(self.samples, 'sample')})"
        )


class Evaluation(ByTask[TaskScores]):
    """Scores by task; with a single task also that task's own attributes.

    Args:
        scores: Scores by task.
        metrics: All values by metric name, such as ``test/cifar10/acc``.
        errors: Why samples could not be read, by name.
    """

    _several, _called = "Several tasks were evaluated", "evaluation"

    def __init__(
        self,
        scores: Mapping[str, TaskScores],
        metrics: Mapping[str, float],
        errors: Mapping[str, str],
    ) -> None:
        super().__init__(scores)
        self.metrics, self.errors = dict(metrics), dict(errors)

    @property
    def table(self) -> Table:
        """A row per task: its number of samples, loss and scores."""
        return Table(
            {"task": name, "samples": one.samples, "loss": one.loss, **one.scores}
            for name, one in self.items()
        )

    def _unread(self) -> str:
        if not self.errors:
            return ""
        name, reason = next(iter(self.errors.items()))
        return f"{len(self.errors)} could not be read, the first: {name} ({reason})"

    def __repr__(self) -> str:
        """Write the table, and what could not be read."""
        return "\n".join(filter(None, [repr(self.table), self._unread()]))

    def _repr_html_(self) -> str:
        """Write it for a notebook."""
        from html import escape  # noqa: PLC0415 - only a notebook needs it

        return f"{self.table._repr_html_()}<p>{escape(self._unread())}</p>"
