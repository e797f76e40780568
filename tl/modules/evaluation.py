"""Loss and scores over whole evaluation sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, cast

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from tl.tasks import Task

Split = Literal["val", "test"]


class Evaluation(nn.Module):
    """Mean loss and scores by task, over all samples of all processes that have a target.

    Args:
        tasks: The tasks by name.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self._tasks = dict(tasks)
        self._seen: dict[tuple[Split, str], Tensor] = {}  # samples with a target
        self._losses = nn.ModuleDict()
        self._scores = nn.ModuleDict()
        for split in ("val", "test"):
            for name, task in tasks.items():
                # a loss that is not a number stays one: leaving it out would hide a divergence
                self._losses[f"{split}/{name}"] = MeanMetric(nan_strategy=math.nan)
                self._scores[f"{split}/{name}"] = nn.ModuleDict(task.scores())

    def _metrics(self, split: Split, task: str) -> tuple[MeanMetric, dict[str, Metric]]:
        loss, scores = (part[f"{split}/{task}"] for part in (self._losses, self._scores))
        return cast("MeanMetric", loss), dict(cast("Any", scores).items())

    def add(self, split: Split, task: str, loss: Tensor, output: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            split: Which set.
            task: Name of the task.
            loss: Mean loss over what has a target, a scalar.
            output: What the head gave, a row for each sample.
            target: As :meth:`tl.tasks.Task.truth` gives it.
        """
        labelled = self._tasks[task].labelled(target)
        before = self._seen.get((split, task))
        self._seen[split, task] = labelled if before is None else before + labelled
        losses, scores = self._metrics(split, task)
        losses.update(loss, self._tasks[task].present(target))
        for score in scores.values():
            self._tasks[task].observe(score, output, target)

    def samples(self, split: Split, reduce: Callable[..., Tensor]) -> dict[str, int]:
        """Return how many samples with a target were evaluated by task, and begin anew.

        They are those of all processes.

        Args:
            split: Which set.
            reduce: Sums a tensor over the processes: ``reduce(tensor, reduce_op="sum")``.
        """
        device = self._device()
        nothing = torch.zeros((), dtype=torch.int64)
        seen = [self._seen.pop((split, task), nothing).to(device) for task in self._tasks]
        counts = reduce(torch.stack(seen), reduce_op="sum").tolist()
        return {task: int(n) for task, n in zip(self._tasks, counts, strict=True) if n}

    def _device(self) -> torch.device:
        return next(iter(cast("MeanMetric", loss).device for loss in self._losses.values()))

    def results(self, split: Split, reduce: Callable[..., Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return ``loss`` and scores by task over all processes, and begin anew.

        Args:
            split: Which set.
            reduce: Sums a tensor over the processes: ``reduce(tensor, reduce_op="sum")``.

        Returns:
            Tasks of which a sample had a target.
        """
        found: dict[str, dict[str, Tensor]] = {}
        for task in self._tasks:
            loss, scores = self._metrics(split, task)
            if loss.update_called:
                value = loss.compute()
                values = {name: score.compute() for name, score in scores.items()}
                # NaN is also the mean over no labels at all, which is nothing to log
                if not value.isnan() or float(reduce(loss.weight.clone(), reduce_op="sum")):
                    found[task] = {"loss": value, **values}
            with torch.inference_mode(mode=False):  # else a later `fit` could not add to them
                for metric in (loss, *scores.values()):
                    metric.reset()
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
