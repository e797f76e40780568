"""What a batch holds for a task: its part and its targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from tl.batch import size_of
from tl.data.images.resident import Batch, Targets
from tl.tasks import Task

AnyBatch = Batch | Mapping[str, Batch | None]
#: By task, the output of the head and the targets as :meth:`tl.tasks.Task.truth` returns them.
Outputs = dict[str, tuple[Tensor, Tensor]]


def by_source(batch: AnyBatch, tasks: Iterable[Task] = ()) -> dict[str | None, Batch]:
    """Sort a batch by source; the only source of a plain ``(images, targets)`` is ``None``.

    Args:
        batch: ``(images, targets)``, or a dict of those by source.
        tasks: Tasks whose sources are named where the batch is neither.

    Raises:
        ValueError: If it is neither; says what was found.
    """
    if not is_sorted(batch):
        raise _wrong(batch, "(images, targets)", tasks)
    if isinstance(batch, Mapping):
        return {source: part for source, part in batch.items() if part is not None}
    images, targets = batch
    return {None: (images, targets)}


def is_sorted(batch: object) -> bool:
    """Return whether a batch is ``(images, targets)``, or a dict of those by source."""
    if isinstance(batch, Mapping):
        return all(_is_pair(part) for part in batch.values() if part is not None)
    return _is_pair(batch)


def to_predict(batch: object, tasks: Iterable[Task] = ()) -> dict[str | None, Batch]:
    """Sort a batch of images to predict by source, which may come without targets.

    Args:
        batch: Images, ``(images,)`` or ``(images, positions)``, or a dict of those by source.
        tasks: Tasks whose sources are named where the batch is none of them.

    Returns:
        Images and their positions by source; those in the batch where it has none.

    Raises:
        ValueError: If it is none of them; says what was found.
    """
    tasks = tuple(tasks)
    parts: Mapping[Any, Any] = batch if isinstance(batch, Mapping) else {None: batch}
    if _is_inputs(batch) and not parts.keys() & {task.source for task in tasks}:
        parts = {None: batch}  # a dict that is one input of several tensors
    found: dict[str | None, Batch] = {}
    for source, part in parts.items():
        images, *rest = part if isinstance(part, tuple | list) and part else (part,)
        if part is None:
            continue
        if not _is_inputs(images) or len(rest) > 1:
            raise _wrong(batch, "images or (images, positions)", tasks)
        found[source] = (images, rest[0] if rest else torch.arange(size_of(images)))
    return found


def _is_pair(part: object) -> bool:
    return isinstance(part, tuple | list) and len(part) == 2 and _is_inputs(part[0])  # noqa: PLR2004 - a pair


def _is_inputs(found: object) -> bool:
    if isinstance(found, Mapping):
        parts = found.values()
        return bool(parts) and all(isinstance(part, Tensor) and part.ndim for part in parts)
    return isinstance(found, Tensor) and found.ndim > 1


def _wrong(batch: object, expected: str, tasks: Iterable[Task]) -> ValueError:
    """Make the error of a batch of another form."""
    parts = batch.items() if isinstance(batch, Mapping) else ()
    said = ", ".join(f"{name!r}: {_form(part)}" for name, part in parts)
    found = f"a dict of {said}" if parts else _form(batch)
    sources = ", ".join(dict.fromkeys(task.source for task in tasks if task.source is not None))
    return ValueError(
        f"The batch is {found}; expected {expected}, or a dict of those by source"
        f"{f': {sources}' if sources else ''}."
    )


def _form(part: object) -> str:
    """Describe a part of a batch in a few words."""
    if isinstance(part, tuple | list):
        kinds = ", ".join(map(_form, part[:5]))
        more = ", ..." if len(part) > 5 else ""  # noqa: PLR2004 - as many as are shown
        return f"a {type(part).__name__} of {len(part)} ({kinds}{more})"
    if isinstance(part, Tensor):
        return f"a tensor of shape {tuple(part.shape)}"
    return f"a {type(part).__name__}"


def source_of(task: Task, parts: Mapping[str | None, Batch]) -> str | None:
    """Name the part of a batch that a task reads; it may be absent.

    A batch without names is every task's, and a task without a source reads the only one.
    """
    if None in parts:
        return None
    return next(iter(parts)) if task.source is None and len(parts) == 1 else task.source


def target_of(task: Task, targets: Targets) -> Tensor:
    """Pick a task's targets out of its source's, as they are.

    Raises:
        ValueError: If the source has several targets and none is the task's.
    """
    if not isinstance(targets, Mapping):
        return targets
    if task.target in targets:
        return targets[task.target]
    raise ValueError(
        f"Task {task.name!r} reads the target {task.target!r}, the data have {', '.join(targets)}."
    )


def labels_of(task: Task, targets: Targets) -> Tensor:
    """Return a task's class numbers ``(N,)``, negative where a sample has no label.

    Raises:
        ValueError: If they are not there, or not those of a classification.
    """
    return task.truth(task.settle(target_of(task, targets)))


def checked(batch: AnyBatch, tasks: Iterable[Task]) -> AnyBatch:
    """Return a batch whose targets have the form of :meth:`tl.tasks.Task.settle`.

    Args:
        batch: A batch as it comes from a loader, in the memory of the CPU.
        tasks: Tasks whose targets are looked at.

    Raises:
        ValueError: If there is another one; names the task and the sample.
    """
    parts = by_source(batch)
    found = dict(parts)
    for task in tasks:
        source = source_of(task, parts)
        if source not in parts:
            continue
        inputs, given = parts[source]
        target = task.check(target_of(task, given))
        if (count := size_of(inputs)) != len(target):
            raise ValueError(
                f"Task {task.name!r} has {len(target)} targets for the {count} samples of the "
                "batch."
            )
        if isinstance(given, Mapping):
            others = cast("dict[str, Tensor]", found[source][1])
            found[source] = (parts[source][0], {**others, cast("str", task.target): target})
        else:
            found[source] = (parts[source][0], target)
    if not isinstance(batch, Mapping):
        return found[None]
    return {**batch, **cast("dict[str, Batch]", found)}
