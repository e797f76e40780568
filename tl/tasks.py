"""What is predicted: the one description that data, heads, losses and metrics share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Task:
    """A classification task: one head, one loss, one set of metrics.

    Args:
        name: Name in metrics (``val/<name>/acc``) and heads; letters, digits, ``_`` and ``-``.
        num_classes: Number of classes, at least 2.
        source: Name of the data source that the task reads in a multi-source batch
            ``{source: (images, targets)}``; ``None`` where the batch has one source.
        target: Key of the labels in a source that carries several (``{"fine": ..., "coarse":
            ...}``); ``None`` where the labels are one tensor.

    Raises:
        ValueError: If the name has other characters or there are fewer than 2 classes.
    """

    name: str
    num_classes: int
    source: str | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"A task's name has letters, digits, '_' and '-' only, got {self.name!r}."
            )
        if self.num_classes < 2:  # noqa: PLR2004 - a classification has two sides at least
            raise ValueError(
                f"Task {self.name!r} needs at least 2 classes, got {self.num_classes}."
            )


def as_task(task: Task | Mapping[str, Any]) -> Task:
    """Return a task, also from the plain dict that checkpoints keep of it."""
    return task if isinstance(task, Task) else Task(**task)
