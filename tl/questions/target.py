"""A task as scores of features see it: a row of features with a class or numbers each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tl.questions.samples import Samples, unknown
from tl.tasks import Prototypes, Task

#: Positions on each image that a dense task is compared at.
PLACES = 8
_MAPS = 3  # dimensions of targets on pixels, without channels


@dataclass(frozen=True)
class Target:
    """What features are compared with.

    Args:
        task: Name of the task.
        rows: Sample of each row ``(M,)``, ascending: a sample has several on dense tasks.
        places: Position of each row on its sample ``(M,)``; 0 for tasks on vectors.
        labels: Class of each row ``(M,)``, numbered as they occur; ``None`` for numbers.
        values: One-hot classes or standardised numbers ``(M, T)`` float64; NaN if unknown, in some
            of a row's columns.
    """

    task: str
    rows: Tensor
    places: Tensor
    labels: Tensor | None
    values: Tensor

    @property
    def groups(self) -> Tensor | None:
        """Sample of each row where samples have several, else ``None``."""
        return self.rows if len(torch.unique(self.rows)) < len(self.rows) else None

    def by_known(self) -> Iterator[tuple[Tensor, Target]]:
        """Yield the columns that are known in the same rows, as a target of these rows.

        Yields:
            Positions of the rows ``(K,)``, ascending, and the target.
        """
        patterns, which = torch.unique(~self.values.isnan(), dim=1, return_inverse=True)
        for number, known in enumerate(patterns.T):
            rows = known.nonzero().flatten()
            values = self.values[rows][:, which == number]
            labels = None if self.labels is None else self.labels[rows]
            yield rows, Target(self.task, self.rows[rows], self.places[rows], labels, values)

    def of(self, features: Tensor) -> Tensor:
        """Return the features of each row ``(M, D)`` from ``(N, D)`` or ``(N, P, D)``."""
        return features[self.rows] if features.ndim == 2 else features[self.rows, self.places]  # noqa: PLR2004


def chosen_task(tasks: Sequence[Task], name: str | None) -> Task:
    """Return the task to compare by.

    Args:
        tasks: The tasks of the target.
        name: One of them; ``None`` for the only one.

    Raises:
        ValueError: If there is no such task, several, or none that features are compared with.
    """
    known = [task for task in tasks if task.reads != "tokens"]
    found = [task for task in known if name in (None, task.name)]
    if len(found) != 1:
        names = ", ".join(task.name for task in known) or "none"
        said = "several tasks" if name is None and known else f"no task {name!r} to rank for"
        raise ValueError(f"The target has {said}; choose by --task one of: {names}.")
    return found[0]


def places_of(task: Task) -> int:
    """Return how many positions of an image a task is compared at; 0 for tasks on vectors."""
    return PLACES if task.reads == "maps" else 0


def target_of(samples: Samples, task: Task, places: Tensor | None = None) -> Target:
    """Return what features are compared with.

    Args:
        samples: The samples.
        task: One of their tasks.
        places: Positions ``(N, P, 2)`` of the features, for dense tasks.

    Raises:
        ValueError: If no sample has a label, no class has two samples, or nothing varies.
    """
    given = samples.targets[task.name]
    if places is not None:
        given = _at(given, places)  # (N, P) or (N, P, C)
        count, each = given.shape[:2]
        rows = torch.arange(count).repeat_interleave(each)
        spots = torch.arange(each).repeat(count)
        given = given.flatten(0, 1)
    else:
        rows = torch.arange(len(given))
        spots = torch.zeros_like(rows)
    classes = hasattr(task, "num_classes") or isinstance(task, Prototypes)
    one_class = given.ndim == 1 and classes
    if one_class:
        kept = given >= 0
    else:
        given = given.double().masked_fill(unknown(given), torch.nan).reshape(len(given), -1)
        kept = ~given.isnan().all(1)
    rows, spots, given = rows[kept], spots[kept], given[kept]
    if not len(given):
        raise ValueError(f"No sample of the target has a label of task {task.name!r}.")
    if one_class:
        return Target(task.name, rows, spots, *_classes(given, rows, task.name))
    values = _numbers(given, task.name)
    kept = ~values.isnan().all(1)  # a row may have only numbers that do not vary
    return Target(task.name, rows[kept], spots[kept], None, values[kept])


def _classes(labels: Tensor, rows: Tensor, task: str) -> tuple[Tensor, Tensor]:
    found, index = torch.unique(labels, return_inverse=True)
    counts = [len(torch.unique(rows[index == number])) for number in range(len(found))]
    if len(labels) == 1:
        raise ValueError(
            f"One sample of the target was taken for task {task!r}; a source is judged by several. "
            "Take more samples (`--samples`, `label_fraction`), or label more."
        )
    if len(counts) < 2:  # noqa: PLR2004 - nothing to tell apart
        raise ValueError(
            f"All samples of the target have one class of task {task!r}; expected two."
        )
    if max(counts) < 2:  # noqa: PLR2004 - nothing to be left out
        raise ValueError(
            f"The target has one sample of each class of task {task!r}: a source is judged by "
            "samples that it is not shown, which takes two of a class or more. Take more samples "
            "(`--samples`, `label_fraction`), or label more."
        )
    return index, functional.one_hot(index).double()


def _numbers(values: Tensor, task: str) -> Tensor:
    missing = values.isnan()
    highest = values.masked_fill(missing, -torch.inf).max(0).values
    varies = highest > values.masked_fill(missing, torch.inf).min(0).values
    if not bool(varies.any()):
        raise ValueError(f"The numbers of task {task!r} are all the same; nothing to predict.")
    values = values[:, varies] - values[:, varies].nanmean(0)
    return values / values.square().nanmean(0).sqrt()


def _at(maps: Tensor, places: Tensor) -> Tensor:
    """Return maps ``(N, H, W)`` or ``(N, C, H, W)`` at positions ``(N, P, 2)``."""
    height, width = maps.shape[-2:]
    y = (places[..., 0] * height).long()
    x = (places[..., 1] * width).long()
    which = torch.arange(len(maps))[:, None]
    if maps.ndim == _MAPS:
        return maps[which, y, x]
    return maps.movedim(1, -1)[which, y, x]
