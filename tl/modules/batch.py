"""What a batch holds for a task: its part, its labels, its loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from tl.data.resident import Batch, Targets
from tl.tasks import Task

AnyBatch = Batch | Mapping[str, Batch | None]
#: The label of a sample that has none.
MISSING = -1


def by_source(batch: AnyBatch) -> dict[str | None, Batch]:
    """Sort a batch by source; the only source of a plain ``(images, targets)`` is ``None``."""
    if isinstance(batch, Mapping):
        return {source: part for source, part in batch.items() if part is not None}
    images, targets = batch
    return {None: (images, targets)}


def source_of(task: Task, parts: Mapping[str | None, Batch]) -> str | None:
    """Name the part of a batch that a task reads; it may be absent.

    A batch without names is every task's, and a task without a source reads the only one.
    """
    if None in parts:
        return None
    return next(iter(parts)) if task.source is None and len(parts) == 1 else task.source


def labels_of(task: Task, targets: Targets) -> Tensor:
    """Pick a task's labels ``(N,)`` out of its source's targets.

    Raises:
        ValueError: If the source has several targets and none is the task's.
    """
    if isinstance(targets, Tensor):
        return without_nan(targets)
    if task.target in targets:
        return without_nan(targets[task.target])
    raise ValueError(
        f"Task {task.name!r} reads the target {task.target!r}, the data have {', '.join(targets)}."
    )


def without_nan(target: Tensor) -> Tensor:
    """Return labels as integers; NaN, a missing label in floats, becomes :data:`MISSING`."""
    if not target.is_floating_point():
        return target
    return torch.where(target.isnan(), MISSING, target).long()


def cross_entropy(logits: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
    """Return the mean over the samples with a label; 0, with a gradient of 0, if none has one.

    Args:
        logits: ``(N, num_classes)``.
        target: ``(N,)``, :data:`MISSING` where there is no label.
        label_smoothing: Share of the target spread over all classes, 0 to below 1.
    """
    total = functional.cross_entropy(
        logits, target, ignore_index=MISSING, label_smoothing=label_smoothing, reduction="sum"
    )
    return total / (target != MISSING).sum().clamp(min=1)


def wrong_label(task: str, target: Tensor, classes: int) -> ValueError:
    """Make the error of a label that a task's head has no output for.

    Args:
        task: Name of the task.
        target: Labels of a batch ``(N,)``.
        classes: Outputs of the head.
    """
    positions = ((target >= classes) | ((target < 0) & (target != MISSING))).nonzero()
    wrong = [int(position) for position in positions]
    label = int(target[wrong[0]])
    return ValueError(
        f"Task {task!r} has a head of {classes} classes, and sample {wrong[0]} of the batch has "
        f"the label {label}; {len(wrong)} of its {len(target)} labels are not 0 to {classes - 1}."
    )
