"""Checks before a run: data that do not fit, callbacks that would mislead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import BaseFinetuning, BatchSizeFinder

from tl.data import MultiTaskDataModule
from tl.modules.direction import check_direction
from tl.tasks import Task

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule


def check_fit(module: SharedBackboneModule) -> None:
    """Refuse to train on what does not fit the module, or with callbacks that would mislead.

    Raises:
        ValueError: If there is such a thing.
    """
    data, callbacks = module.datamodule, module.trainer.callbacks  # type: ignore[attr-defined]
    by_source = getattr(module, "batch_norm", None) == "per_source_statistics"
    check_answers(module.tasks, data)
    check_unlabelled(module.penalties, module.tasks, data, by_source=by_source)
    check_monitors(callbacks)
    refuse_batch_size_search(callbacks, data)


def check_loaders(module: SharedBackboneModule) -> None:
    """Refuse loaders of `tl.data` without the data module that prepares their batches.

    Batches of texts need no preparation.

    Raises:
        ValueError: If there is one.
    """
    trainer = module.trainer
    if module.datamodule is not None:
        return
    given: object = trainer.predict_dataloaders
    if trainer.training:
        given = trainer.train_dataloader
    elif trainer.validating or trainer.sanity_checking:
        given = trainer.val_dataloaders
    elif trainer.testing:
        given = trainer.test_dataloaders
    for loader in _each(given):
        data = getattr(loader, "dataset", None)
        home = type(loader if data is None else data).__module__
        if home.startswith("tl.data.") and not home.startswith("tl.data.text."):
            verb = trainer.state.fn.value if trainer.state.fn is not None else "fit"
            raise ValueError(
                f"Found a loader of {type(loader if data is None else data).__name__} without its "
                "data module, which normalises and augments its batches on the device; pass the "
                f"data module itself: trainer.{verb}(model, data)."
            )


def _each(loaders: object) -> Iterator[object]:
    """Yield the loaders of a collection."""
    if isinstance(loaders, Mapping):
        loaders = [*loaders.values()]
    if isinstance(loaders, list | tuple):
        for one in loaders:
            yield from _each(one)
    else:
        yield loaders


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


def check_unlabelled(
    penalties: Iterable[object], tasks: Mapping[str, Task], data: object, *, by_source: bool
) -> None:
    """Refuse data of which training does not read the sources that a penalty adapts to.

    Args:
        penalties: The penalties.
        tasks: The tasks by name.
        data: The data; without `trained_sources`, batches hold what their owner puts there.
        by_source: Whether batch norm has statistics for each source.

    Raises:
        ValueError: If there are such data.
    """
    adapting = [type(e).__name__ for e in penalties if getattr(e, "reads_unlabelled", False)]
    read = getattr(data, "trained_sources", None)
    if not adapting or read is None:
        return
    labelled = {task.source for task in tasks.values() if task.trains and task.supervised}
    unread = sorted({str(task.source) for task in tasks.values()} - {*read})
    advice = "`trains: false` alone keeps a source out of training; set its `labels: none`"
    if not {*read} - labelled:
        raise ValueError(
            f"{adapting[0]} adapts to a source without labels, and training does not read "
            f"{' and '.join(unread)}: {advice}."
        )
    if unread and by_source:
        raise ValueError(
            "`batch_norm='per_source_statistics'` cannot evaluate the source "
            f"{unread[0]!r}, whose statistics are never estimated: {advice} if training may read "
            "it, or take 'joint' or 'per_source'."
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
