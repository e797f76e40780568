"""Targets of classifications: class indices or probabilities; anything else is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

if TYPE_CHECKING:  # it imports this
    from tl.tasks.classification import Classification

#: The label of an unlabelled sample.
MISSING = -1
_FULL = 4  # bytes per number from which on rows of probabilities sum to 1 closely


def settled(task: Classification, target: object, *, checked: bool = False) -> Tensor:
    """Return the targets of a batch in one of the two forms that losses and metrics expect.

    Args:
        task: The task.
        target: Class indices ``(N,)`` of any type, or a row per sample ``(N, num_classes)``:
            probabilities or one-hot. NaN marks an unlabelled sample, and so does :data:`MISSING`
            among class indices.
        checked: Skip the checks, which would synchronise with an accelerator, because the targets
            have already passed them.

    Returns:
        Class indices ``(N,)`` as int64, :data:`MISSING` if unlabelled; or floats
        ``(N, num_classes)`` whose rows sum to 1, NaN if unlabelled.

    Raises:
        ValueError: If a target is neither; names the first one.
    """
    if isinstance(target, Tensor) and target.ndim == 1 and target.dtype is torch.int64:
        if not checked:  # an index out of range would kill the CUDA context
            _check_range(task, target)
        return target
    shapes = ((), (task.num_classes,))
    target = task.tensor_of(target, _expected(task), lambda s: bool(s) and s[1:] in shapes)
    if target.ndim > 1:
        return target if checked and target.is_floating_point() else _rows(task, target)
    if target.is_floating_point():
        missing = target.isnan()
        wrong = ~missing & ((target != target.trunc()) | target.isinf())
        if not checked and wrong.any():
            first = _first(wrong)
            raise ValueError(
                f"Task {task.name!r} is a classification, and sample {first} of the batch has the "
                f"target {float(target[first]):.6g}, which is not a class index; expected "
                f"{_expected(task)}."
            )
        target = torch.where(missing, MISSING, target)
    target = target.long()
    if not checked:
        _check_range(task, target)
    return target


def check(task: Classification, target: object) -> Tensor:
    """Return targets as :func:`settled` does, and refuse floats for class indices.

    A number to be predicted may happen to be whole. Floats are class indices only where NaN marks
    an unlabelled sample, as in a column of a table with gaps.
    """
    found = settled(task, target)
    given = cast("Tensor", target)
    if given.ndim == 1 and given.is_floating_point() and not given.isnan().any():
        raise ValueError(
            f"Task {task.name!r} is a classification, and its targets are {given.dtype} numbers; "
            f"expected {_expected(task)}. Convert class indices with `.long()`, or predict the "
            "numbers with a tl.tasks.Regression."
        )
    return found


def settled_labels(task: Classification, target: object, *, checked: bool = False) -> Tensor:
    """Return multi-label targets as floats ``(N, num_classes)``, NaN if unknown.

    Args:
        task: The task.
        target: 0 and 1 of any type, :data:`MISSING` or NaN if unknown.
        checked: Skip the checks of values, which would synchronise with an accelerator.

    Raises:
        ValueError: If a target is none of these; names the first one.
    """
    wanted = f"0 and 1 of shape (N, {task.num_classes}), {MISSING} or NaN if a label is unknown"
    found = task.tensor_of(target, wanted, lambda shape: shape[1:] == (task.num_classes,)).float()
    found = found.masked_fill(found == MISSING, torch.nan)
    if not checked:
        wrong = ~(found.isnan() | (found == 0) | (found == 1))
        if wrong.any():
            row, label = (int(position) for position in wrong.nonzero()[0])
            raise ValueError(
                f"Task {task.name!r} has several labels per sample, and label {label} of sample "
                f"{row} of the batch is {float(found[row, label]):.6g}; expected {wanted}."
            )
    return found


def class_numbers(target: Tensor) -> Tensor:
    """Return the class index of each sample ``(N,)``, the most probable one of soft targets."""
    if target.ndim == 1:
        return target
    return torch.where(target.isnan().any(1), MISSING, target.argmax(1))


def wrong_label(task: str, target: Tensor, classes: int) -> ValueError:
    """Return the error for a label that a task's head has no output for.

    Args:
        task: Name of the task.
        target: Labels of a batch ``(N,)``.
        classes: Number of outputs of the head.
    """
    positions = _out_of_range(target, classes).nonzero()
    wrong = [int(position) for position in positions]
    label = int(target[wrong[0]])
    return ValueError(
        f"Task {task!r} has a head of {classes} classes, and sample {wrong[0]} of the batch has "
        f"the label {label}; {len(wrong)} of its {len(target)} labels are not 0 to {classes - 1}."
    )


def _rows(task: Classification, target: Tensor) -> Tensor:
    values = target.float() if target.is_floating_point() else target.long()
    total = values.sum(1)
    tolerance = 1e-3 if target.element_size() >= _FULL else 1e-2
    right = (values >= 0).all(1) & ((total - 1).abs() <= tolerance)
    wrong = ~(right | values.isnan().all(1))
    if wrong.any():
        first = _first(wrong)
        row = ", ".join(f"{float(value):.4g}" for value in values[first][:8])
        more = ", ..." if values.shape[1] > 8 else ""  # noqa: PLR2004 - as many as are shown
        raise ValueError(
            f"Row {first} of the targets of task {task.name!r} is [{row}{more}], with the sum "
            f"{float(total[first]):.4g}; expected {_expected(task)}."
        )
    return target if target.is_floating_point() else values.argmax(1)


def _expected(task: Classification) -> str:
    classes = task.num_classes
    return (
        f"class indices 0 to {classes - 1} of shape (N,), {MISSING} or NaN if unlabelled, or "
        f"probabilities of shape (N, {classes}), 0 or more, that sum to 1 in each row"
    )


def _first(wrong: Tensor) -> int:
    return int(wrong.nonzero()[0])


def _out_of_range(target: Tensor, classes: int) -> Tensor:
    return (target >= classes) | ((target < 0) & (target != MISSING))


def _check_range(task: Classification, target: Tensor) -> None:
    if _out_of_range(target, task.num_classes).any():
        raise wrong_label(task.name, target, task.num_classes)
