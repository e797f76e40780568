"""Tests of one model under many shifts."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

from lightning.pytorch import LightningDataModule, Trainer

from tl.data import DataError, ImageDataModule, MultiTaskDataModule, TensorDataModule
from tl.data.progress import progress
from tl.data.shifts.shift import FAMILIES, SEVERITIES, SHIFTS, Shift, check_name, check_severity
from tl.modules.base import SharedBackboneModule
from tl.report.shifts import ShiftScores
from tl.tasks import Task

ShiftedSource = ImageDataModule | TensorDataModule


def shifts_named(given: str | Sequence[str]) -> list[str]:
    """Return the shifts that are asked for, in their usual order.

    Args:
        given: ``all``, the name of a shift or of a family, or several of them, also in one text
            with commas between them.

    Raises:
        ValueError: If there is no such shift or family, or nothing is asked for.
    """
    asked = given.split(",") if isinstance(given, str) else list(given)
    found: set[str] = set()
    for name in map(str.strip, asked):
        if name == "all":
            found |= set(SHIFTS)
        elif name in FAMILIES:
            found |= set(FAMILIES[name])
        else:
            check_name(name)
            found.add(name)
    if not found:
        raise ValueError(f"`shifts` is empty; give all, {', '.join(FAMILIES)}, or names.")
    return [name for name in SHIFTS if name in found]


def severities_named(given: int | Sequence[int] | None) -> list[int]:
    """Return the severities that are asked for, ascending; all by default.

    Raises:
        ValueError: If one is not 1, 2, 3, 4 or 5, or there is none.
    """
    given = [given] if isinstance(given, int) else given
    if given is not None and not given:
        raise ValueError("`severities` is empty; give some of 1 to 5, or leave it out.")
    for severity in given or ():
        check_severity(severity)
    return sorted(set(SEVERITIES if given is None else given))


def image_sources(data: LightningDataModule | None) -> dict[str, ShiftedSource]:
    """Return the sources of images of a data module by name; arrays not yet read may be images.

    Raises:
        ValueError: If there is none.
    """
    found: dict[str, ShiftedSource] = {}
    if isinstance(data, MultiTaskDataModule):
        found = {n: s for n, s in data.sources.items() if isinstance(s, ImageDataModule)}
    elif isinstance(data, ImageDataModule):
        found = {data.data_name: data}
    elif isinstance(data, TensorDataModule) and all(s.images() for s in data.splits.values()):
        found = {data.described_as: data}
    if not found:
        raise ValueError(
            "`shifts` need a source of images of tl.data, such as CifarDataModule, "
            "FolderDataModule or a TensorDataModule of uint8 (N, 3, H, W); the data are of "
            f"{type(data).__name__}."
        )
    return found


def check_processes(trainer: Trainer) -> None:
    """Refuse several processes.

    Raises:
        ValueError: If there are.
    """
    if trainer.world_size > 1:
        raise ValueError(
            f"Tests under shifts run in one process, and the Trainer has {trainer.world_size}; "
            "set --trainer.devices=1."
        )


def scores_under_shifts(
    module: SharedBackboneModule,
    data: LightningDataModule,
    trainer: Trainer,
    shifts: Sequence[str],
    severities: Sequence[int],
) -> list[ShiftScores]:
    """Test a model on its test images as they are, and under each shift and severity.

    The images are read once. All sources of images are shifted together.

    Args:
        module: The model, with its weights.
        data: Its data.
        trainer: Tests it, without loggers.
        shifts: Names of the shifts.
        severities: The severities.

    Returns:
        Scores of each task that reads images.
    """
    sources = image_sources(data)
    several = isinstance(data, MultiTaskDataModule)
    tasks = {n: t for n, t in module.tasks.items() if not several or t.source in sources}
    values: dict[str, dict[str, list[float]]] = {name: {} for name in tasks}
    try:
        clean = _test(module, data, trainer, sources, tasks, None)
        labelled = {name: module.samples["test"].get(name, 0) for name in tasks}
        pairs = [(shift, severity) for shift in shifts for severity in severities]
        for shift, severity in progress(pairs, len(pairs), "Testing under shifts", least=2):
            found = _test(module, data, trainer, sources, tasks, Shift(shift, severity))
            for name, value in found.items():
                values[name].setdefault(shift, []).append(value)
    finally:
        for source in sources.values():
            source.show_shifted(source.shift)
    return [
        ShiftScores(
            task=name,
            score=task.score,
            higher_is_better=task.higher_is_better,
            count=min(labelled[name], _images(sources, task, trainer)),  # an image may have several
            share=task.accuracy is not None and task.score == task.accuracy,
            by_pixel=task.on_pixels or not task.counts_samples,
            clean=clean[name],
            severities=severities,
            values=values[name],
        )
        for name, task in tasks.items()
        if name in clean
    ]


def fitting_shifts(
    sources: Mapping[str, ShiftedSource], shifts: Sequence[str]
) -> tuple[list[str], str]:
    """Return the shifts that all sources can show, and why they cannot show the others.

    Raises:
        DataError: If they can show none.
    """
    fitting: list[str] = []
    reasons: list[DataError] = []
    for name in shifts:
        try:
            for source in sources.values():
                source.check_shift(Shift(name))
            fitting.append(name)
        except DataError as error:
            reasons.append(error)
    if not fitting:
        raise reasons[0]
    said = (str(each).removesuffix("; choose another.") for each in reasons)
    return fitting, "; ".join(said)


def _images(sources: Mapping[str, ShiftedSource], task: Task, trainer: Trainer) -> int:
    """Return the number of images of a task's source that were tested."""
    [first, *_] = sources.values()
    source = sources.get(str(task.source), first)
    if isinstance(source, ImageDataModule):
        size = source.settings.eval_batch_size
    else:
        size = source.batch_size
    read = sum(trainer.num_test_batches) * size
    return int(min(len(source.splits["test"]), read))


def _test(
    module: SharedBackboneModule,
    data: LightningDataModule,
    trainer: Trainer,
    sources: dict[str, ShiftedSource],
    tasks: dict[str, Task],
    shift: Shift | None,
) -> dict[str, float]:
    """Return the deciding score by task."""
    for source in sources.values():
        source.show_shifted(shift)
    with _quietly():
        trainer.test(module, datamodule=data, verbose=False)
    named = {name: module.metric("test", name, task.score) for name, task in tasks.items()}
    metrics: dict[str, Any] = dict(trainer.callback_metrics)
    return {name: float(metrics[metric]) for name, metric in named.items() if metric in metrics}


@contextmanager
def _quietly() -> Iterator[None]:
    """Say nothing of each of many tests."""
    loggers = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        # a banner of synthetic images per test: the first test has shown it
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
