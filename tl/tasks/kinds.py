"""The kinds of task that exist: read from checkpoints, and compared by their scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import isabstract
from typing import Any

from tl.tasks.base import Direction, Task


def deciding_score(tasks: Iterable[Task]) -> tuple[str, bool]:
    """Return the score that selects the best checkpoint, and whether higher is better.

    It is the deciding score of the tasks that train if they all have the same one, else ``loss``.
    """
    scores = {(task.score, task.higher_is_better) for task in tasks if task.trains}
    return scores.pop() if len(scores) == 1 else ("loss", False)


def score_directions() -> dict[str, Direction]:
    """Return whether each score of all imported kinds is better at its maximum or minimum, by name.

    Names on which kinds disagree are left out.
    """
    found: dict[str, set[Direction]] = {}
    for kind in (each for same in _kinds().values() for each in same):
        decides: Direction = "max" if kind.higher_is_better else "min"
        for name, direction in {kind.score: decides, **kind.directions, "loss": "min"}.items():
            found.setdefault(name, set()).add(direction)
    return {name: next(iter(both)) for name, both in found.items() if len(both) == 1}


def as_task(task: Task | Mapping[str, Any]) -> Task:
    """Return a task, also from the plain dict that checkpoints store.

    Raises:
        ValueError: If its kind is unknown to this version, or two classes have its name.
    """
    if isinstance(task, Task):
        return task
    fields = dict(task)
    kind = fields.pop("kind", "classification")  # version 0.1.0 knew no other
    known = _kinds()
    if kind not in known:
        raise ValueError(
            f"Task {fields.get('name')!r} is of the kind {kind!r}, which this version of tl does "
            f"not know; it knows {', '.join(sorted(known))}. If it is a class of your own, import "
            "it first."
        )
    if len(known[kind]) > 1:
        raise ValueError(
            f"Task {fields.get('name')!r} is of the kind {kind!r}, which "
            f"{' and '.join(f'{each.__module__}.{each.__qualname__}' for each in known[kind])} "
            "both are; give your class another `kind`."
        )
    return known[kind][0](**fields)


def _kinds() -> dict[str, list[type[Task]]]:
    """Return all concrete task classes that are imported, by their name in checkpoints.

    A class that was defined again, as in a notebook, replaces the earlier one.
    """
    import tl.tasks  # noqa: PLC0415 - imports our own

    del tl
    found: dict[str, dict[str, type[Task]]] = {}
    kinds: list[Any] = list(Task.__subclasses__())
    while kinds:
        kind = kinds.pop(0)
        if "kind" in vars(kind) and not isabstract(kind):
            found.setdefault(kind.kind, {})[f"{kind.__module__}.{kind.__qualname__}"] = kind
        kinds += kind.__subclasses__()
    return {name: [*same.values()] for name, same in found.items()}
