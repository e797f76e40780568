"""Training samples without augmentation, for what reads them before a run."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tl.batch import Inputs
from tl.data.base import ImageDataModule
from tl.data.multitask import MultiTaskDataModule
from tl.data.tensors import TensorDataModule
from tl.data.text.source import TextSource
from tl.modules.batch import labels_of
from tl.tasks import Task


def plain_batches(data: object, task: Task, size: int = 500) -> Iterator[tuple[Inputs, Tensor]]:
    """Yield all training samples of a task with its labels, normalised but not augmented.

    Args:
        data: The run's data module, one of tl.data.
        task: The task.
        size: Samples per batch.

    Raises:
        ValueError: If the data module is not one of tl.data.
    """
    if isinstance(data, MultiTaskDataModule) and task.source is not None:
        data = data.sources[task.source]
    if isinstance(data, TensorDataModule | TextSource):
        samples = data.splits["train"]
        for some in torch.split(torch.arange(len(samples)), size):
            batch = samples[some]
            inputs, targets = (
                data.standardise(batch) if isinstance(data, TensorDataModule) else batch
            )
            yield inputs, labels_of(task, targets)
        return
    if not isinstance(data, ImageDataModule):
        raise ValueError(  # noqa: TRY004 - a setting of the run
            f"Reading training images without augmentation needs a data module of tl.data, got "
            f"{type(data).__name__}."
        )
    images = data.splits["train"]
    for first in range(0, len(images), size):
        rows = range(first, min(first + size, len(images)))
        pixels, targets = data.transform(images[torch.arange(rows.start, rows.stop)], None)
        yield pixels, labels_of(task, targets)
