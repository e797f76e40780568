"""Balanced sampling: the order of an epoch in which every class comes equally often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tl.data.errors import DataError, listed
from tl.tasks import Task

Sampling = Literal["shuffled", "balanced"]


def balanced_order(labels: Tensor, wanted: int, generator: torch.Generator) -> Tensor:
    """Return a random order in which every class comes equally often, give or take one sample.

    A class that is too small for its share is recycled, in a new order each time; of one that is
    too large, a random part is left out. Samples without a label keep their share.

    Args:
        labels: ``(N,)`` class numbers, negative where a sample has no label.
        wanted: Length of the order.
        generator: Source of randomness.

    Returns:
        Positions ``(wanted,)`` int64.
    """
    without = (labels < 0).nonzero().flatten()
    classes = torch.unique(labels[labels >= 0]).tolist()
    groups = [(labels == label).nonzero().flatten() for label in classes]
    unlabelled = round(wanted * len(without) / len(labels))
    each, rest = divmod(wanted - unlabelled, len(groups))
    # those that get one sample more differ from epoch to epoch
    more = set(torch.randperm(len(groups), generator=generator)[:rest].tolist())
    counts = [each + (number in more) for number in range(len(groups))]
    parts = [
        _recycled(group, count, generator)
        for group, count in zip([*groups, without], [*counts, unlabelled], strict=True)
        if count
    ]
    order = torch.cat(parts)
    return order[torch.randperm(wanted, generator=generator)]


def _recycled(group: Tensor, count: int, generator: torch.Generator) -> Tensor:
    passes = [
        torch.randperm(len(group), generator=generator) for _ in range(-(-count // len(group)))
    ]
    return group[torch.cat(passes)[:count]]


def check_balanced_by(sampling: str, balanced_by: str | None, owner: str) -> None:
    """Refuse `balanced_by` where nothing is balanced: it would have no effect.

    Raises:
        DataError: If it is set and sampling is not ``balanced``.
    """
    if balanced_by is not None and sampling != "balanced":
        raise DataError(
            f"{owner}: `balanced_by` is {balanced_by!r}, and `sampling` is {sampling!r}, which "
            "balances nothing; set `sampling: balanced`, or leave `balanced_by` out."
        )


def balancing_task(tasks: Sequence[Task], chosen: str | None, owner: str) -> Task:
    """Return the task whose classes are balanced.

    Args:
        tasks: The tasks of a source.
        chosen: Name or target of one of them; ``None`` for the only one.
        owner: Name of the source, for messages.

    Raises:
        DataError: If there is no such task, or several to choose from.
    """
    found = [task for task in tasks if chosen in (None, task.name, task.target)]
    if len(found) != 1:
        names = listed([task.name for task in tasks])
        said = "has several tasks" if chosen is None else f"has no single task {chosen!r}"
        raise DataError(
            f"{owner} {said}: set `balanced_by` to the one whose classes `sampling: balanced` "
            f"balances, of {names}."
        )
    return found[0]


def labels_to_balance(task: Task, targets: Tensor | Mapping[str, Tensor], owner: str) -> Tensor:
    """Return the class of each training sample ``(N,)``, and log what balanced sampling does.

    Args:
        task: Whose classes are balanced.
        targets: Targets of the training samples, or a dict of them by the tasks' `target`.
        owner: Name of the source, for messages.

    Raises:
        DataError: If the task has no classes, or one of them has no sample.
    """
    given = targets[str(task.target)] if isinstance(targets, Mapping) else targets
    labels = task.strata(task.settle(given.cpu()))
    if labels is None:
        raise DataError(
            f"{owner}: `sampling: balanced` needs a task with one class per sample, and "
            f"{task.name!r} is not one ({task.answers}); leave it out, or set `balanced_by` to "
            "another task."
        )
    counts = torch.bincount(labels[labels >= 0], minlength=int(getattr(task, "num_classes", 0)))
    if empty := [str(number) for number in (counts == 0).nonzero().flatten().tolist()]:
        raise DataError(
            f"{owner}: `sampling: balanced` needs training samples of every class, and task "
            f"{task.name!r} has none of {len(empty)} of its {len(counts)} classes: "
            f"{listed(empty)}. Add some, or train with `sampling: shuffled`."
        )
    shares, missing = counts / len(labels), 1 - int(counts.sum()) / len(labels)
    kept = f"; samples without a label keep their share of {missing:.3g}" if missing else ""
    rank_zero_info(
        f"tl: {owner}: balanced sampling by {task.name}: each of its {len(counts)} classes makes "
        f"up {(1 - missing) / len(counts):.3g} of an epoch; their shares of the training samples "
        f"are {float(shares.min()):.3g} to {float(shares.max()):.3g}{kept}."
    )
    return labels
