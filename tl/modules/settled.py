"""Assignments to a module's arguments after its construction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, get_args

from torch import nn

from tl.modules.features import head_of
from tl.modules.finite import FiniteGuard
from tl.tasks import Task, by_name
from tl.tasks.base import Reads
from tl.transfer.freezing import Strategy

#: Used by the constructor only; a later value would have no effect.
_SETTLED = frozenset(
    {
        *("init_from", "rename", "reinit", "init_heads", "penalties", "task", "tasks"),
        *("batch_norm", "balancer", "rescale", "channels_last", "compile", "compile_mode"),
        "cuda_graph",
    }
)
#: Arguments that are stored under another name.
_KEPT_AS = {
    "optimizer": "optimizer_factory",
    "scheduler": "scheduler_factory",
    "learning_rate": "lr",
}
_CHECKED = frozenset({"label_smoothing", "lr", "strategy", "on_nonfinite", "max_skips"})
#: Attributes that :func:`set_later` handles.
ARGUMENTS = _SETTLED | _KEPT_AS.keys() | _CHECKED


def set_later(module: Any, name: str, value: Any) -> tuple[str, Any]:  # noqa: ANN401 - any argument
    """Check an argument that is assigned to a constructed module.

    Args:
        module: The module; changed if the value belongs to one of its collaborators.
        name: One of `ARGUMENTS`.
        value: The new value.

    Returns:
        The attribute to set, and its value.

    Raises:
        ValueError: If only the constructor uses the argument, or the value is out of range.
    """
    if name in _SETTLED:
        raise ValueError(
            f"`{name}` cannot change after construction; pass it to a new {type(module).__name__}."
        )
    name = _KEPT_AS.get(name, name)
    if name == "label_smoothing":
        check_label_smoothing(value, module.tasks.values())
    elif name == "lr" and value is not None and not value > 0:
        raise ValueError(f"`lr` must be positive, got {value}.")
    elif name == "strategy":
        if not isinstance(value, Strategy | None):
            raise ValueError(f"`strategy` must be a strategy of tl.transfer, got {value!r}.")
        if value is not None:
            value.check(list(module.stages()))
        module.fine_tuning.thaw()
    elif name in ("on_nonfinite", "max_skips"):
        guard, attribute = module.guard, "action" if name == "on_nonfinite" else name
        now = {"action": guard.action, "max_skips": guard.max_skips, attribute: value}
        FiniteGuard(**now)
        setattr(guard, attribute, value)
    if name in module.hparams:
        module.hparams[name] = value
    return name, value


def check_speed_options(compile: object, cuda_graph: object) -> None:  # noqa: A002 - torch's word
    """Refuse values of ``compile`` and ``cuda_graph`` that do not exist.

    Raises:
        ValueError: If there is one.
    """
    if compile not in (False, True, "reduce-overhead", "max-autotune"):
        raise ValueError(
            f"`compile` must be false, true, 'reduce-overhead' or 'max-autotune', got {compile!r}."
        )
    if not isinstance(cuda_graph, bool):
        raise ValueError(  # noqa: TRY004 - like all other arguments
            f"`cuda_graph` must be true or false, got {cuda_graph!r}."
        )


def check_tasks(given: Sequence[Task | dict[str, Any]], label_smoothing: float) -> dict[str, Task]:
    """Return tasks by name.

    Raises:
        ValueError: If there is none, names are not unique or reserved, or the deciding score is
            unknown or has the wrong direction.
    """
    tasks = by_name(given)
    check_label_smoothing(label_smoothing, tasks.values())
    heads = nn.ModuleDict()  # `training` is an attribute of each, not of the class
    if taken := [name for name in tasks if hasattr(heads, name)]:
        whole = tasks[taken[0]].source is None
        advice = "it, or the folder or table that it is named after" if whole else "its source"
        raise ValueError(
            f"A task cannot be called {taken[0]!r}, a reserved name of torch; rename {advice}."
        )
    for task in tasks.values():
        _check_fields(task)
    return tasks


def checked_head(task: Task, backbone: nn.Module) -> nn.Module:
    """Return a new head of a task.

    Raises:
        ValueError: If the backbone lacks what the task reads, or the head is not a module.
    """
    head: object = head_of(task, backbone)
    if not isinstance(head, nn.Module):
        raise ValueError(  # noqa: TRY004 - a fault of the task
            f"The `head` of task {task.name!r} is a {type(head).__name__}; expected a "
            "torch.nn.Module."
        )
    return head


def _check_fields(task: Task) -> None:
    """Refuse an unknown `reads` or score, and a deciding score that improves the other way."""
    if task.reads not in get_args(Reads):
        raise ValueError(
            f"Task {task.name!r} must read one of {', '.join(get_args(Reads))}, got {task.reads!r}."
        )
    scores = task.scores()
    if missing := [name for name in (task.score, *task.tallied) if name not in {"loss", *scores}]:
        raise ValueError(
            f"Task {task.name!r} names the score {missing[0]!r}, which its `scores()` lacks; they "
            f"are {', '.join(scores) or 'none'}, and the loss."
        )
    known: dict[str, str] = {"loss": "min", **task.directions}
    higher = getattr(scores.get(task.score), "higher_is_better", None)
    if higher is not None:
        known.setdefault(task.score, "max" if higher else "min")
    wanted = "max" if task.higher_is_better else "min"
    if (direction := known.get(task.score, wanted)) != wanted:
        raise ValueError(
            f"Task {task.name!r} has `higher_is_better` {task.higher_is_better}, but its deciding "
            f"score {task.score!r} is better at its {direction}imum; set `higher_is_better` to "
            f"{direction == 'max'}."
        )


def check_label_smoothing(value: float, tasks: Iterable[Task]) -> None:
    """Refuse label smoothing that is out of range, or that no task supports.

    Raises:
        ValueError: If it is.
    """
    if not 0 <= value < 1:
        raise ValueError(f"`label_smoothing` must be at least 0 and below 1, got {value}.")
    if value and not any(task.smooths for task in tasks):
        raise ValueError(
            f"`label_smoothing` is for classifications, but no task is one; leave it out, got "
            f"{value}."
        )
