"""The heads in a checkpoint of this framework: read them, order their rows, load them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from tl.checkpoints.files import listed
from tl.counting import counted
from tl.data.naming import composed_names
from tl.data.trained_on import groups_by_task, regrouped
from tl.tasks import Task, as_task
from tl.transfer.names import find_state
from tl.transfer.opened import Source, opened


@dataclass(frozen=True)
class Head:
    """A head in a checkpoint."""

    task: str  # its name
    weight: Tensor  # (C, D)
    bias: Tensor | None  # (C,)
    class_names: tuple[str, ...] = ()  # empty where the checkpoint has none
    groups: Mapping[str, str] = field(default_factory=dict)  # by class, if its classes are groups
    answers: str | None = None  # such as `10 classes`; None if the checkpoint has no tasks


def read_heads(path: Source) -> dict[str, Head]:
    """Read all linear heads of a checkpoint of this framework, by task.

    Raises:
        CheckpointError: If the file cannot be read.
        ValueError: If it has no head.
    """
    _, content, _ = opened(path).read()
    state = find_state(content) or {}
    named = [
        name.removeprefix("heads.").removesuffix(".weight")
        for name in state
        if name.startswith("heads.") and name.endswith(".weight")
    ]
    tasks = [name for name in named if "." not in name]  # a decoder has layers of its own
    if not tasks and any(name.startswith("heads.") for name in state):
        raise ValueError(
            f"{path}: has no linear head (`heads.<task>.weight`), only {listed(state, 3)}: a "
            "decoder, or the projector of a self-supervised task, does not travel. Leave out what "
            "asks for a head, such as `init_heads`."
        )
    if not tasks:
        raise ValueError(
            f"{path}: has no head (`heads.<task>.weight`), only {listed(state, 3)}; use a "
            "checkpoint of a run of this framework."
        )
    record: Any = content.get("tl")
    record = record if isinstance(record, Mapping) else {}
    names, data = record.get("class_names"), record.get("data")
    found = names if isinstance(names, Mapping) else {}
    groups = groups_by_task(data) if isinstance(data, Mapping) else {}
    answers = {task["name"]: as_task(task).answers for task in record.get("tasks", ())}
    return {
        task: Head(
            task=task,
            weight=state[f"heads.{task}.weight"],
            bias=state.get(f"heads.{task}.bias"),
            class_names=composed_names(found.get(task) or ()),
            groups=groups.get(task, {}),
            answers=answers.get(task),
        )
        for task in tasks
    }


def read_head(path: Source, task: str | None = None, *, only: bool = False) -> Head:
    """Read a head from a checkpoint of this framework.

    Args:
        path: The checkpoint.
        task: Task whose head to take, if there are several.
        only: Take the only head, whatever its name.

    Raises:
        CheckpointError: If the file cannot be read.
        ValueError: If it has no head, or several and `task` names none of them.
    """
    heads = read_heads(path)
    if len(heads) == 1 and (task is None or only):
        return next(iter(heads.values()))
    if task not in heads:
        wanted = "name one of them" if task is None else f"none of them is {task!r}"
        raise ValueError(f"{path}: has heads for {listed(list(heads))}; {wanted}.")
    return heads[task]


def rows_by_name(there: Sequence[str], here: Sequence[str], what: str) -> list[int] | None:
    """Return the row of a head for each class, by class name.

    Args:
        there: Class names in the order of the head's rows.
        here: Class names in the order wanted.
        what: Name of the head, for the message.

    Returns:
        A row for each class of `here`; ``None`` if the order is the same.

    Raises:
        ValueError: If the sets of names differ; lists both.
    """
    there, here = composed_names(there), composed_names(here)
    if there == here:
        return None
    if sorted(there) != sorted(here):
        raise ValueError(
            f"{what} has the classes {listed(list(there))}, but the data have "
            f"{listed(list(here))}; use the same class names, or leave out that head."
        )
    row_of = {name: row for row, name in enumerate(there)}
    return [row_of[name] for name in here]


def order_heads(
    heads: nn.ModuleDict, there: Mapping[str, Sequence[str]], here: Mapping[str, Sequence[str]]
) -> list[str]:
    """Reorder the rows of heads to match the data's classes, by name.

    Args:
        heads: Linear heads by task; changed in place.
        there: Class names in the order of the rows, by task.
        here: Class names of the data, by task.

    Returns:
        The tasks whose rows were reordered.

    Raises:
        ValueError: If a task's class names differ; lists both.
    """
    orders = {
        task: rows_by_name(names, here[task], f"The source's head of {task!r}")
        for task, names in there.items()
        if names and here.get(task)
    }
    moved = {task: rows for task, rows in orders.items() if rows is not None}
    with torch.no_grad():
        for task, rows in moved.items():
            for parameter in heads[task].parameters():
                parameter.copy_(parameter[rows].clone())
    return list(moved)


def check_groups(
    there: Mapping[str, Mapping[str, str]], here: Mapping[str, Mapping[str, str]]
) -> None:
    """Refuse heads whose groups have the data's names but other members.

    Args:
        there: The group of each class by name, by task of the source.
        here: The groups of the data's classes, by task.

    Raises:
        ValueError: If a class belongs to different groups; names it with both.
    """
    for task, groups in there.items():
        if moved := regrouped(groups, here.get(task, {})):
            raise ValueError(
                f"The source's head of {task!r} groups {counted(len(moved), 'class', 'classes')} "
                "differently from the "
                f"data: {listed(moved)}. Use the source's groups, or leave out `init_heads`."
            )


def load_heads(
    heads: nn.ModuleDict, path: Source, tasks_here: Mapping[str, Task] = MappingProxyType({})
) -> dict[str, Head]:
    """Load the heads of tasks that a checkpoint has too; leave the others untouched.

    If both have a single task with the same number of classes, they are matched whatever their
    names; `order_heads` and `check_groups` compare class names once the data are loaded.

    Args:
        heads: Linear heads by task; changed in place.
        path: A checkpoint of this framework.
        tasks_here: The tasks of the heads, by name.

    Returns:
        The checkpoint's heads, by the task whose head was filled.

    Raises:
        CheckpointError: If the file cannot be read.
        ValueError: If it has none of the tasks, or one of another kind, or with another number of
            classes or features.
    """
    found = read_heads(path)
    if len(found) == len(heads) == 1 and not set(found) & set(heads):
        only = next(iter(found.values()))
        if only.class_names:
            found = dict.fromkeys(heads, only)
    tasks = [task for task in heads if task in found]
    if not tasks:
        raise ValueError(
            f"{path}: has heads for {listed(list(found))}, but this run has the tasks "
            f"{listed(list(heads))}; leave out `init_heads`, or give the tasks the same names."
        )
    for task in tasks:  # all are checked before any is changed
        here, there = heads[task].get_parameter("weight").shape, found[task].weight.shape
        if here != there:
            raise ValueError(
                f"{path}: the head of {task!r} maps {there[1]} features to {there[0]} classes, "
                f"here {here[1]} to {here[0]}; leave out `init_heads`."
            )
        answers = tasks_here[task].answers if task in tasks_here else None
        if None not in (answers, found[task].answers) and answers != found[task].answers:
            raise ValueError(
                f"{path}: the head of {task!r} gives {found[task].answers}, here it gives "
                f"{answers}; leave out `init_heads`."
            )
    with torch.no_grad():
        for task in tasks:
            heads[task].get_parameter("weight").copy_(found[task].weight)
            bias = found[task].bias
            if bias is not None:
                heads[task].get_parameter("bias").copy_(bias)
    return {task: found[task] for task in tasks}
