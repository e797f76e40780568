"""Checks before a run: data that do not fit, callbacks that would mislead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lightning.pytorch.callbacks import BaseFinetuning, BatchSizeFinder

from tl.data import MultiTaskDataModule
from tl.modules.direction import check_direction
from tl.tasks import Task


def check_answers(tasks: Mapping[str, Task], data: object) -> None:
    """Refuse data whose tasks do not fit the heads.

    Raises:
        ValueError: If a task predicts something else.
    """
    offered = {task.name: task for task in getattr(data, "tasks", ())}
    for name, task in tasks.items():
        if len(tasks) == len(offered) == 1:
            other = next(iter(offered.values()))
        elif name in offered:
            other = offered[name]
        else:
            continue
        if other.answers != task.answers:
            raise ValueError(
                f"Task {name!r} has a head of {task.answers}, the data have {other.answers}."
            )


def refuse_batch_size_search(callbacks: Iterable[object], data: object) -> None:
    """Refuse a search for the batch size if it is not set, or each source has its own.

    Raises:
        ValueError: If a callback searches for it.
    """
    if not any(isinstance(callback, BatchSizeFinder) for callback in callbacks):
        return
    if isinstance(data, MultiTaskDataModule) and not data.takes("batch_size"):
        raise ValueError(
            "BatchSizeFinder sets the `batch_size` of the data, but every source has its own; "
            "remove it from the sources."
        )
    if getattr(data, "batch_size", ...) is None:
        raise ValueError(
            "BatchSizeFinder starts from the data's `batch_size`, which is not set; set it first, "
            "such as `data.batch_size = 32`."
        )


def check_monitors(callbacks: Iterable[object]) -> None:
    """Refuse callbacks that monitor a metric in the wrong direction, or that freeze layers.

    Raises:
        ValueError: If there is one; Lightning's `EarlyStopping` defaults to ``min``.
    """
    for callback in callbacks:
        if isinstance(callback, BaseFinetuning):
            raise ValueError(  # noqa: TRY004 - a setting of the run
                f"{type(callback).__name__} changes the optimizer independently of the module, and "
                "its learning rates differ from those it prints; use a strategy of `tl.transfer`, "
                "such as LPFT or GradualUnfreezing."
            )
        monitor, mode = getattr(callback, "monitor", None), getattr(callback, "mode", None)
        if isinstance(monitor, str) and isinstance(mode, str):
            check_direction(monitor, mode, type(callback).__name__)
