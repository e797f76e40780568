"""What becomes of an argument of a module that is set as an attribute later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from tl.modules.finite import FiniteGuard
from tl.tasks import Task, by_name
from tl.transfer.freezing import Strategy

#: What the constructor builds from; a later value would change nothing.
_SETTLED = frozenset(
    {
        *("init_from", "rename", "reinit", "init_heads", "penalties", "task", "tasks"),
        *("batch_norm", "balancer", "rescale", "channels_last", "compile", "compile_mode"),
    }
)
#: Arguments that are kept under another name.
_KEPT_AS = {
    "optimizer": "optimizer_factory",
    "scheduler": "scheduler_factory",
    "learning_rate": "lr",
}
_CHECKED = frozenset({"label_smoothing", "lr", "strategy", "on_nonfinite", "max_skips"})
#: Attributes that :func:`set_later` is to be asked about.
ARGUMENTS = _SETTLED | _KEPT_AS.keys() | _CHECKED


def set_later(module: Any, name: str, value: Any) -> tuple[str, Any]:  # noqa: ANN401 - any argument
    """Check an argument that is set on a module that stands.

    Args:
        module: The module; changed where the value belongs to one of its parts.
        name: One of `ARGUMENTS`.
        value: The new value.

    Returns:
        The attribute to set, and its value.

    Raises:
        ValueError: If the argument is settled when a module is built, or the value is out of range.
    """
    if name in _SETTLED:
        raise ValueError(
            f"`{name}` is settled when a module is built; give it to a new {type(module).__name__}."
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


def check_tasks(given: Sequence[Task | dict[str, Any]], label_smoothing: float) -> dict[str, Task]:
    """Return tasks by name.

    Args:
        given: Tasks or their fields.
        label_smoothing: As for :func:`check_label_smoothing`.

    Raises:
        ValueError: If there is none, two have one name, or one cannot be called so.
    """
    tasks = by_name(given)
    check_label_smoothing(label_smoothing, tasks.values())
    if taken := [name for name in tasks if hasattr(nn.ModuleDict, name)]:
        raise ValueError(
            f"A task cannot be called {taken[0]!r}, a name of torch's own; rename its source."
        )
    return tasks


def check_label_smoothing(value: float, tasks: Iterable[Task]) -> None:
    """Refuse a share of the target that is out of range, or that no task has a use for.

    Raises:
        ValueError: If it is.
    """
    if not 0 <= value < 1:
        raise ValueError(f"`label_smoothing` must be at least 0 and below 1, got {value}.")
    if value and not any(task.smooths for task in tasks):
        raise ValueError(
            f"`label_smoothing` is for classifications, and no task is one; leave it out, got "
            f"{value}."
        )
