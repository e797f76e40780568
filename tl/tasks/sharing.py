"""Tasks that share a head, and tasks that are only evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

from tl.tasks.base import Task
from tl.tasks.kinds import as_task

T = TypeVar("T", bound=Task)


def by_name(tasks: Iterable[Task | Mapping[str, Any]]) -> dict[str, Task]:
    """Return tasks by name, in their order, also from the plain dicts that checkpoints store.

    Raises:
        ValueError: If there is none, or names are not unique.
    """
    found = [as_task(task) for task in tasks]
    if not found:
        raise ValueError("`tasks` is empty; give at least one task.")
    names = [task.name for task in found]
    if len(set(names)) < len(names):
        raise ValueError(f"Task names must differ, got {', '.join(names)}.")
    return dict(zip(names, found, strict=True))


def with_relations(
    tasks: Iterable[T], shares: Mapping[str, str], trains: Mapping[str, bool]
) -> tuple[T, ...]:
    """Return tasks with `shares` and `trains` set for those that are named.

    Args:
        tasks: The tasks, as data publish them.
        shares: By task, the task whose head it uses.
        trains: By task, whether its targets train.

    Raises:
        ValueError: If a name is not one of the tasks', `trains` is not true or false, or none would
            train.
    """
    if not (shares or trains):
        return tuple(tasks)
    found = by_name(tasks)
    for option, given in (("shares", shares), ("trains", trains)):
        for name, value in given.items():
            if name not in found or (option == "shares" and value not in found):
                wrong = value if name in found else name
                raise ValueError(
                    f"`{option}` names {wrong!r}, which is not a task of the data; they define "
                    f"{', '.join(found)}."
                )
            if option == "trains" and not isinstance(value, bool):
                raise ValueError(f"`trains` must be true or false for {name!r}, got {value!r}.")
            found[name] = as_task({**found[name].record(), option: value})
    if not trained_tasks(found):
        raise ValueError("`trains` is false for every task of the data; at least one must train.")
    return cast("tuple[T, ...]", tuple(found.values()))


def trained_tasks(tasks: Mapping[str, Task]) -> dict[str, Task]:
    """Return the tasks that train."""
    return {name: task for name, task in tasks.items() if task.trains}


def owner_of(name: str, tasks: Mapping[str, Task]) -> str:
    """Return the task whose head a task uses: itself, or the one that it shares with.

    Raises:
        ValueError: If that task does not exist, or tasks share heads in a circle.
    """
    way = [name]
    while (other := tasks[way[-1]].shares) is not None:
        if other not in tasks:
            raise ValueError(
                f"Task {way[-1]!r} shares the head of {other!r}, which is not a task; the tasks "
                f"are {', '.join(tasks)}."
            )
        if other in way:
            raise ValueError(f"Tasks share heads in a circle: {' -> '.join([*way, other])}.")
        way.append(other)
    return way[-1]


def owners(tasks: Mapping[str, Task]) -> dict[str, str]:
    """Return, for each task, the task whose head it uses.

    Raises:
        ValueError: If no task trains, a head belongs to a task that does not train, or a task
            shares a head that does not exist or predicts something else.
    """
    if not trained_tasks(tasks):
        raise ValueError(
            f"No task trains: {', '.join(tasks)} have `trains: false`; at least one must train."
        )
    found = {name: owner_of(name, tasks) for name in tasks}
    for name, owner in found.items():
        here, there = tasks[name], tasks[owner]
        if not there.trains:
            raise ValueError(
                f"Task {owner!r} has `trains: false` and a head of its own, which nothing would "
                "train; name a task that trains in `shares`."
            )
        if (here.answers, here.reads) != (there.answers, there.reads):
            raise ValueError(
                f"Task {name!r} gives {here.answers} from the backbone's {here.reads} and shares "
                f"the head of {owner!r}, which gives {there.answers} from its {there.reads}."
            )
    return found
