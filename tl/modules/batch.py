"""What a batch holds for a task: its source's part, and its targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from tl.batch import Inputs, size_of, views_of
from tl.counting import counted
from tl.data.images.resident import Batch, Targets
from tl.tasks import Task, TwoViews

AnyBatch = Batch | Mapping[str, Batch | None]
#: By task, the output of the head and the targets as :meth:`tl.tasks.Task.truth` returns them.
Outputs = dict[str, tuple[Tensor, Tensor]]


def by_source(batch: AnyBatch, tasks: Iterable[Task] = ()) -> dict[str | None, Batch]:
    """Split a batch by source; the only source of a plain ``(inputs, targets)`` is ``None``.

    Args:
        batch: ``(inputs, targets)``, or a dict of them by source.
        tasks: Tasks whose sources the error names.

    Raises:
        ValueError: If it is neither; describes what was found.
    """
    if not is_sorted(batch):
        raise _wrong(batch, "(inputs, targets), with inputs of shape (N, ...)", tasks)
    if isinstance(batch, Mapping):
        return {source: part for source, part in batch.items() if part is not None}
    images, targets = batch
    return {None: (images, targets)}


def is_sorted(batch: object) -> bool:
    """Return whether a batch is ``(inputs, targets)``, or a dict of them by source."""
    if isinstance(batch, Mapping):
        return all(_is_pair(part) for part in batch.values() if part is not None)
    return _is_pair(batch)


def to_predict(batch: object, tasks: Iterable[Task] = ()) -> dict[str | None, Batch]:
    """Split a batch to predict, with or without targets, by source.

    Args:
        batch: Inputs, ``(inputs,)`` or ``(inputs, indices)``, or a dict of them by source.
        tasks: Tasks whose sources the error names.

    Returns:
        Inputs and sample indices by source; without indices, positions in the batch.

    Raises:
        ValueError: If it is none of these; describes what was found.
    """
    tasks = tuple(tasks)
    parts: Mapping[Any, Any] = batch if isinstance(batch, Mapping) else {None: batch}
    if _is_inputs(batch) and not parts.keys() & {task.source for task in tasks}:
        parts = {None: batch}  # the dict is one input of several tensors
    found: dict[str | None, Batch] = {}
    for source, part in parts.items():
        images, *rest = part if isinstance(part, tuple | list) and part else (part,)
        if part is None:
            continue
        if not _is_inputs(images) or len(rest) > 1:
            raise _wrong(batch, "inputs of shape (N, ...) or (inputs, indices)", tasks)
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
    """Return the error for a batch of another form."""
    sources = ", ".join(dict.fromkeys(task.source for task in tasks if task.source is not None))
    return ValueError(
        f"The batch is {described(batch)}; expected {expected}, or a dict of those by source"
        f"{f': {sources}' if sources else ''}."
    )


def described(part: object) -> str:
    """Describe a part of a batch in a few words: its type, and its shape or parts."""
    if isinstance(part, Mapping) and part:
        return (
            f"a dict of {', '.join(f'{name!r}: {described(each)}' for name, each in part.items())}"
        )
    if isinstance(part, tuple | list):
        kinds = ", ".join(map(described, part[:5]))
        more = ", ..." if len(part) > 5 else ""  # noqa: PLR2004 - as many as are shown
        return f"a {type(part).__name__} of {len(part)} ({kinds}{more})"
    if isinstance(part, Tensor):
        return f"a tensor of shape {tuple(part.shape)}"
    return f"a {type(part).__name__}"


def source_of(task: Task, parts: Mapping[str | None, Batch]) -> str | None:
    """Return the source that a task reads in a batch, where it may be absent.

    All tasks read a batch without sources; a task without a source reads the only one.
    """
    if None in parts:
        return None
    return next(iter(parts)) if task.source is None and len(parts) == 1 else task.source


def check_views(task: Task, inputs: Inputs) -> None:
    """Refuse a task on two views where the source gives one, and the other way round.

    Raises:
        ValueError: If they do not fit; says what to change.
    """
    two = views_of(inputs) is not None
    if two is isinstance(task, TwoViews):
        return
    where = "its source" if task.source is None else f"the source {task.source!r}"
    if two:
        raise ValueError(
            f"Task {task.name!r} is a {task.kind} on one view of each sample, and {where} gives "
            "two (`learns`); give it a source of its own."
        )
    raise ValueError(
        f"Task {task.name!r} learns from two views of each image, and {where} gives one; set "
        "`learns` there, such as tl.tasks.NTXent."
    )


def target_of(task: Task, targets: Targets, inputs: Inputs | None = None) -> Tensor:
    """Return a task's targets out of its source's, unchanged.

    Args:
        task: The task.
        targets: Those of its source.
        inputs: The samples: a self-supervised task counts them where labels are withheld.

    Raises:
        ValueError: If the source has several targets, but not the task's.
    """
    if not isinstance(targets, Mapping):
        return targets
    if task.target in targets:
        return targets[task.target]
    if not targets and inputs is not None and not task.supervised:
        some = next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs
        return torch.ones(size_of(inputs), dtype=torch.bool, device=some.device)
    if not targets:
        raise ValueError(
            f"Task {task.name!r} trains on labels, and its source withholds them in training "
            "(`labels: none`); set `trains: false` and `shares` for the task, or `labels: all`."
        )
    raise ValueError(
        f"Task {task.name!r} reads the target {task.target!r}, the data have {', '.join(targets)}."
    )


def labels_of(task: Task, targets: Targets) -> Tensor:
    """Return a task's class indices ``(N,)``, negative for unlabelled samples.

    Raises:
        ValueError: If they are missing or do not fit the task.
    """
    return task.truth(task.settle(target_of(task, targets)))


def checked(batch: AnyBatch, tasks: Iterable[Task], known: set[str]) -> AnyBatch:
    """Return a batch whose targets have the form of :meth:`tl.tasks.Task.settle`.

    Targets that several tasks read stay as they are, since each task settles them differently.

    Args:
        batch: A batch from a loader, on the CPU.
        tasks: Tasks whose targets are checked.
        known: Names of the tasks whose targets passed :meth:`tl.tasks.Task.check` before; those of
            this batch are added.

    Raises:
        ValueError: If one does not fit; names the task and the sample.
    """
    parts = by_source(batch)
    found = dict(parts)
    settled: dict[tuple[str | None, str | None], list[Tensor]] = {}
    for task in tasks:
        source = source_of(task, parts)
        if source not in parts:
            continue
        inputs, given = parts[source]
        check = task.settle if task.name in known else task.check
        target = check(target_of(task, given, inputs))
        known.add(task.name)
        if (count := size_of(inputs)) != len(target):
            raise ValueError(
                f"Task {task.name!r} has {counted(len(target), 'target')} for the "
                f"{counted(count, 'sample')} of the batch."
            )
        key = task.target if isinstance(given, Mapping) else None
        settled.setdefault((source, key), []).append(target)
    for (source, key), forms in settled.items():
        if len(forms) > 1:
            continue
        inputs, given = found[source]
        if isinstance(given, Mapping):
            found[source] = (inputs, {**given, cast("str", key): forms[0]})
        else:
            found[source] = (inputs, forms[0])
    if not isinstance(batch, Mapping):
        return found[None]
    return {**batch, **cast("dict[str, Batch]", found)}
