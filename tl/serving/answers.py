"""What a model answers for one sample, by task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from tl.tasks import Task

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """The answer to one task for one sample.

    Args:
        task: The task.
        value: As :meth:`tl.tasks.Task.answer` gives it, such as probabilities ``(num_classes,)``.
        names: Names of the classes, where the training data had them.
    """

    task: Task
    value: Tensor
    names: Sequence[str] | None = None

    @property
    def cells(self) -> dict[str, str]:
        """The answer in words, by the columns of ``predictions.csv``."""
        return self.task.cells(self.value[None], self.names)[0]

    @property
    def words(self) -> str:
        """The answer as a line on a terminal."""
        if getattr(self.task, "multi_label", False):
            best = [f"{name} {chance:.6f}" for name, chance in self.top(len(self.value))]
            found = best[: int((self.value > 0.5).sum())]  # noqa: PLR2004 - as in `cells`
            return "; ".join(found) or f"no label above 0.5; the most probable is {best[0]}"
        cells = self.cells
        if "class_name" in cells:
            return " ".join(cells[key] for key in ("class_name", "probability") if key in cells)
        said = [v if k == "value" else f"{k.replace('_', ' ')} {v}" for k, v in cells.items()]
        return ", ".join(said) or f"numbers of the shape {tuple(self.value.shape)}"

    def top(self, count: int) -> list[tuple[str, float]]:
        """Return the most probable classes with their probabilities, the best one first.

        Args:
            count: How many; all if there are fewer.

        Raises:
            AttributeError: If the task does not give probabilities of classes.
        """
        if not hasattr(self.task, "num_classes") or self.value.ndim != 1:
            raise AttributeError(f"{self.task.name} answers {self.task.answers}, not a class.")
        best, which = self.value.topk(min(count, len(self.value)))
        return [
            (self.names[i] if self.names else str(i), p)
            for i, p in zip(which.tolist(), best.tolist(), strict=True)
        ]

    @property
    def label(self) -> str:
        """Name of the most probable class, or its number where it has no name."""
        return self.top(1)[0][0]

    @property
    def probability(self) -> float:
        """Probability of the most probable class."""
        return self.top(1)[0][1]

    def __repr__(self) -> str:
        """Write it in words."""
        said = ", ".join(f"{k}={v}" for k, v in self.cells.items() if k != "class")
        return f"Answer({said or tuple(self.value.shape)})"


class ByTask(Mapping[str, T]):
    """What there is of each task; with a single task also that one's own attributes.

    Args:
        parts: By task.
    """

    _several = "There are several tasks"  # said where one is to be chosen
    _called = "found"  # in an example

    def __init__(self, parts: Mapping[str, T]) -> None:
        self._parts = dict(parts)

    def __getitem__(self, task: str) -> T:
        """Return a task's."""
        return self._parts[task]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the tasks' names."""
        return iter(self._parts)

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self._parts)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a part's
        """Return an attribute of the only part."""
        if name.startswith("_"):
            raise AttributeError(name)
        if len(self) != 1:
            raise AttributeError(
                f"{self._several}; choose one, as {self._called}[{next(iter(self))!r}]"
                f".{name}; they are {', '.join(self)}."
            )
        return getattr(next(iter(self._parts.values())), name)


class Prediction(ByTask[Answer]):
    """The answers for one sample by task; with a single task also that answer's own attributes.

    Args:
        answers: Answer by task.
        sample: What was asked about.
        error: Why it could not be read; its answers are then missing.
    """

    _several, _called = "The model has several tasks", "prediction"

    def __init__(
        self, answers: Mapping[str, Answer], sample: object = None, error: str | None = None
    ) -> None:
        super().__init__(answers)
        self.sample, self.error = sample, error

    def __getitem__(self, task: str) -> Answer:
        """Return a task's answer."""
        if self.error is not None:
            raise KeyError(f"{task}: {self.error}")
        return super().__getitem__(task)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - an Answer's
        """Return an attribute of the only answer."""
        if not name.startswith("_") and self.error is not None:
            raise AttributeError(f"There is no answer: {self.error}")
        return super().__getattr__(name)

    def __repr__(self) -> str:
        """Write it in words."""
        if self.error is not None:
            return f"Prediction(error={self.error!r})"
        return f"Prediction({', '.join(f'{k}={v!r}' for k, v in self.items())})"
