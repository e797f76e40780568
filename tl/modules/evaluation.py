"""Loss and accuracy over whole evaluation sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, cast

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from tl.modules.targets import MISSING
from tl.tasks import Task

Split = Literal["val", "test"]


class Evaluation(nn.Module):
    """Mean loss and accuracy by task, over all labelled samples of all processes.

    Args:
        tasks: The tasks by name.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self._tasks = tuple(tasks)
        self._seen: dict[tuple[Split, str], int] = {}
        self._losses = nn.ModuleDict()
        self._accuracies = nn.ModuleDict()
        for split in ("val", "test"):
            for name, task in tasks.items():
                # a loss that is not a number stays one: leaving it out would hide a divergence
                self._losses[f"{split}/{name}"] = MeanMetric(nan_strategy=math.nan)
                self._accuracies[f"{split}/{name}"] = MulticlassAccuracy(
                    task.num_classes, average="micro", ignore_index=MISSING
                )

    def _metrics(self, split: Split, task: str) -> tuple[MeanMetric, MulticlassAccuracy]:
        loss, accuracy = (part[f"{split}/{task}"] for part in (self._losses, self._accuracies))
        return cast("MeanMetric", loss), cast("MulticlassAccuracy", accuracy)

    def add(self, split: Split, task: str, loss: Tensor, logits: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            split: Which set.
            task: Name of the task.
            loss: Mean loss over the labelled samples, a scalar.
            logits: ``(N, num_classes)``.
            target: ``(N,)``, ``MISSING`` where there is no label.
        """
        self._seen[split, task] = self._seen.get((split, task), 0) + len(target)
        losses, accuracies = self._metrics(split, task)
        losses.update(loss, (target != MISSING).sum())
        accuracies.update(logits, target)

    def samples(self, split: Split, reduce: Callable[..., Tensor]) -> dict[str, int]:
        """Return how many samples were evaluated by task, over all processes, and begin anew.

        Args:
            split: Which set.
            reduce: Sums a tensor over the processes: ``reduce(tensor, reduce_op="sum")``.
        """
        seen = torch.tensor([self._seen.pop((split, task), 0) for task in self._tasks])
        counts = reduce(seen.to(self._device()), reduce_op="sum").tolist()
        return {task: int(n) for task, n in zip(self._tasks, counts, strict=True) if n}

    def _device(self) -> torch.device:
        return next(iter(cast("MeanMetric", loss).device for loss in self._losses.values()))

    def results(
        self, split: Split, reduce: Callable[..., Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return losses and accuracies by task over all processes, and begin anew.

        Args:
            split: Which set.
            reduce: Sums a tensor over the processes: ``reduce(tensor, reduce_op="sum")``.

        Returns:
            Tasks that had a labelled sample.
        """
        found: tuple[dict[str, Tensor], dict[str, Tensor]] = {}, {}
        for task in self._tasks:
            loss, accuracy = self._metrics(split, task)
            if loss.update_called:
                value, right = loss.compute(), accuracy.compute()
                # NaN is also the mean over no labels at all, which is nothing to log
                if not value.isnan() or float(reduce(loss.weight.clone(), reduce_op="sum")):
                    found[0][task], found[1][task] = value, right
            with torch.inference_mode(mode=False):  # else a later `fit` could not add to them
                loss.reset()
                accuracy.reset()
        return found


def loader_suffix(loader: int, count: int) -> str:
    """Return what follows the names of a loader's metrics, as in Lightning; nothing for the only.

    Args:
        loader: Index of the loader.
        count: How many there are.
    """
    return f"/dataloader_idx_{loader}" if count > 1 else ""


def check_followed(trainer: Trainer, names: Iterable[str], suffix: str, count: int) -> None:
    """Refuse to follow a metric by its plain name where each of several loaders has its own.

    Args:
        trainer: The Trainer, with its callbacks and schedules.
        names: Plain names of the metrics.
        suffix: What follows them for one loader; empty for the only one.
        count: How many loaders there are.

    Raises:
        ValueError: If a callback or a schedule follows one.
    """
    if not suffix or trainer.state.fn != "fit":
        return
    callbacks: list[object] = trainer.callbacks  # type: ignore[attr-defined]
    for one in (*callbacks, *trainer.lr_scheduler_configs):
        monitor = str(getattr(one, "monitor", None))
        if monitor in names:
            there = ", ".join(f"{monitor}/dataloader_idx_{i}" for i in range(count))
            raise ValueError(
                f"{type(one).__name__} follows `{monitor}`, but there are {count} validation "
                f"loaders with metrics of their own; set its `monitor` to one of {there}."
            )
