"""The tasks that a source of images defines by its labels, and whether the labels fit them."""

from __future__ import annotations

from abc import ABC

import torch
from torch import Tensor

from tl.data.as_trained import TrainedSource
from tl.data.errors import DataError
from tl.data.images.resident import ImageDataset
from tl.data.shifts.shift import Shift
from tl.data.split import Split
from tl.tasks import Classification, Task

_NOTHING = torch.empty(0, dtype=torch.int64)  # a source that reads its targets later


class LabelTasks(TrainedSource, ABC):
    """The part of a source of images that names its tasks and checks their targets."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """One task per target: named after the data set, or ``<data>_<target>`` for several.

        With `learns`, it alone, named after the data set.
        """
        learned = self.learned_task(self.data_name, [*self.target_classes()])
        return self._label_tasks() if learned is None else (learned,)

    def _label_tasks(self) -> tuple[Task, ...]:
        """Return the tasks on labels, even if only their classes are of interest."""
        classes = self.target_classes()
        if len(classes) == 1:
            return (Classification(self.data_name, len(next(iter(classes.values())))),)
        return tuple(
            Classification(f"{self.data_name}_{target}", len(names), target=target)
            for target, names in classes.items()
        )

    @property
    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Class names by task, in the order of the labels."""
        if self.learns is not None:
            return {}
        known = self.trained_on.classes if self.trained_on else self.target_classes()
        return {task.name: known[t] for t, task in self._tasks_by_target() if known[t]}

    def _tasks_by_target(self) -> list[tuple[str, Task]]:
        """Return every task with the target that it reads."""
        targets = [*self.target_classes()]
        return [
            (target, task)
            for task in (self.tasks if self.learns is None else self._label_tasks())
            for target in targets
            if task.target == target or (task.target is None and len(targets) == 1)
        ]

    def check_shift(self, shift: Shift) -> None:
        """Refuse a shift that moves pixels where targets lie on them.

        Raises:
            DataError: If it does.
        """
        for _, task in self._tasks_by_target():
            if shift.moves_pixels and task.on_pixels:
                raise DataError(
                    f"{self.data_name}: the shift {shift.name!r} moves pixels, and the targets of "
                    f"task {task.name!r} lie on them and would stay; choose another."
                )

    @property
    def task_groups(self) -> dict[str, dict[str, str]]:
        """The group of each class by name, for each task on groups."""
        groups = self.class_groups()
        if not groups or self.learns is not None:
            return {}
        return {task.name: groups for t, task in self._tasks_by_target() if t == "coarse"}

    @property
    def num_classes(self) -> dict[str, int]:
        """Number of classes by task."""
        return {name: len(classes) for name, classes in self.class_names.items()}

    def class_groups(self) -> dict[str, str] | None:
        """Return the group of each class by name, or ``None`` without groups."""
        return None

    def _check_targets(self, data: ImageDataset, split: Split) -> None:
        tasks = self._tasks_by_target()
        for target, names in self.target_classes().items():
            labels = data.targets.get(target, _NOTHING)
            if not are_classes(labels):
                for task in [task for read, task in tasks if read == target]:
                    try:
                        task.check(labels)
                    except ValueError as error:
                        raise DataError(f"{self.data_name}: {split} images: {error}") from None
                continue
            wrong = ((labels < 0) | (labels >= len(names))).nonzero()
            if names and len(wrong):
                first = int(wrong[0])
                raise DataError(
                    f"{self.data_name}: {split} image {data.name(first)} has the label "
                    f"{int(labels[first])} ({target}), expected 0 to {len(names) - 1} for "
                    f"{len(names)} classes; so have {len(wrong)} of {len(labels)} images."
                )


def are_classes(labels: Tensor) -> bool:
    """Return whether every image has one class number: ``(N,)``, not floats."""
    return labels.ndim == 1 and not labels.is_floating_point()
