"""Loss and scores over whole evaluation sets."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from tl.hardware import never_half
from tl.modules.batch import Outputs
from tl.modules.score_log import bar_names, log_reduced, shared_scores
from tl.tasks import Task, trained_tasks

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule

Split = Literal["val", "test"]


class Evaluation(nn.Module):
    """Mean loss and scores by task, over all labelled samples of all processes.

    Args:
        tasks: The tasks by name.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self._tasks = dict(tasks)
        self._seen: dict[tuple[Split, str], Tensor] = {}  # labelled samples
        self._losses = nn.ModuleDict()
        self._scores = nn.ModuleDict()
        for split in ("val", "test"):
            for name, task in tasks.items():
                # a NaN loss stays NaN: leaving it out would hide a divergence
                self._losses[f"{split}/{name}"] = MeanMetric(nan_strategy=math.nan)
                self._scores[f"{split}/{name}"] = nn.ModuleDict(task.scores())

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Evaluation:
        # also with weights in bf16: sums would soon stop growing
        super()._apply(never_half(fn), recurse)  # type: ignore[no-untyped-call]
        return self

    def reset(self, split: Split) -> None:
        """Forget all batches of a split."""
        for task in self._tasks:
            self._seen.pop((split, task), None)
            loss, scores = self._metrics(split, task)
            with torch.inference_mode(mode=False):  # otherwise a later `fit` could not update them
                for metric in (loss, *scores.values()):
                    metric.reset()

    def _metrics(self, split: Split, task: str) -> tuple[MeanMetric, dict[str, Metric]]:
        loss, scores = (part[f"{split}/{task}"] for part in (self._losses, self._scores))
        return cast("MeanMetric", loss), dict(cast("Any", scores).items())

    def add(self, split: Split, task: str, loss: Tensor, output: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            split: The split.
            task: Name of the task.
            loss: Mean loss over what has a target, a scalar.
            output: Output of the head, one row per sample.
            target: Targets from :meth:`tl.tasks.Task.truth`.
        """
        labelled = self._tasks[task].labelled(target)
        before = self._seen.get((split, task))
        self._seen[split, task] = labelled if before is None else before + labelled
        losses, scores = self._metrics(split, task)
        losses.update(loss, self._tasks[task].present(target))
        for score in scores.values():
            self._tasks[task].observe(score, output, target)

    def samples(self, split: Split, reduce: Callable[..., Tensor]) -> dict[str, int]:
        """Return the number of labelled samples of all processes by task.

        Call it before :meth:`results`, which resets it.

        Args:
            split: The split.
            reduce: Sums a tensor over the processes: ``reduce(tensor, reduce_op="sum")``.
        """
        device = next(iter(cast("MeanMetric", loss).device for loss in self._losses.values()))
        nothing = torch.zeros((), dtype=torch.int64)
        seen = [self._seen.get((split, task), nothing).to(device) for task in self._tasks]
        counts = reduce(torch.stack(seen), reduce_op="sum").tolist()
        return {task: int(n) for task, n in zip(self._tasks, counts, strict=True) if n}

    def results(self, split: Split, reduce: Callable[..., Tensor]) -> dict[str, dict[str, Tensor]]:
        """Return ``loss`` and scores by task over all processes, and reset them.

        Args:
            split: The split.
            reduce: Sums a tensor over the processes: ``reduce(tensor, reduce_op="sum")``.

        Returns:
            Only tasks with a labelled sample.
        """
        found: dict[str, dict[str, Tensor]] = {}
        for task in self._tasks:
            loss, scores = self._metrics(split, task)
            if loss.update_called:
                value = loss.compute()
                values = {name: score.compute() for name, score in scores.items()}
                # NaN is also the mean over no labels, which is not logged
                if not value.isnan() or float(reduce(loss.weight.clone(), reduce_op="sum")):
                    found[task] = {"loss": value, **values}
        self.reset(split)
        return found


class Evaluations(nn.ModuleList):
    """One evaluation for each loader that is read in sequence.

    Attributes:
        samples: Number of samples in the last evaluation of a split, by task; with several
            loaders, by ``<task>/dataloader_idx_<i>``.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        super().__init__([Evaluation(tasks)])
        self._trained = trained_tasks(tasks)  # the means over tasks are of these
        self._shared = shared_scores(self._trained.values())
        self._loaders = 1  # seen in the current evaluation
        self.samples: dict[str, dict[str, int]] = {}

    def begin(self, split: Split) -> None:
        """Start an evaluation, without the batches of one that was interrupted."""
        self._loaders = 1
        for evaluation in self:
            cast("Evaluation", evaluation).reset(split)

    def add(self, split: Split, loader: int, losses: dict[str, Tensor], outputs: Outputs) -> None:
        """Add a batch of a loader: losses, and outputs with targets, by task."""
        evaluation = self._of(loader)
        self._loaders = max(self._loaders, loader + 1)
        for name, (output, target) in outputs.items():
            evaluation.add(split, name, losses[name], output, target)

    def _of(self, loader: int) -> Evaluation:
        for _ in range(len(self), loader + 1):
            with torch.inference_mode(mode=False):  # a later `fit` updates them too
                # a copy: new ones would have the type of the weights
                self.append(copy.deepcopy(self[0]))
            for split in get_args(Split):
                cast("Evaluation", self[-1]).reset(split)
        return cast("Evaluation", self[loader])

    def count(self, module: SharedBackboneModule) -> int:
        """Return how many loaders the current evaluation reads in sequence.

        Call it in all processes. Loaders that are read together, one per source, count as one.
        """
        trainer = module.trainer
        if trainer.world_size == 1:
            return self._loaders
        count = torch.tensor(self._loaders, device=module.device)
        return int(trainer.strategy.reduce(count, reduce_op="max"))

    def log(self, module: SharedBackboneModule, split: Split) -> None:
        """Log each task's loss and scores over each loader, and reset them."""
        trainer, count = module.trainer, self.count(module)
        self._loaders = 1
        self.samples[split] = {}
        found: dict[str, Tensor] = {}
        for loader in range(count):
            suffix = loader_suffix(loader, count)
            evaluation, reduce = self._of(loader), trainer.strategy.reduce
            samples = evaluation.samples(split, reduce)
            self.samples[split] |= {f"{task}{suffix}": n for task, n in samples.items()}
            results = evaluation.results(split, reduce)
            if not results:
                continue
            names = dict.fromkeys(what for each in results.values() for what in each)
            values = {
                module.metric(split, task, what): each[what]
                for what in names
                for task, each in results.items()
                if what in each
            }
            trained = {name: r for name, r in results.items() if name in self._trained}
            if trained:
                losses = {name: each["loss"] for name, each in trained.items()}
                values[f"{split}/loss"] = module.total_loss(losses)
            for what in self._shared if trained else ():
                both = [each[what] for each in trained.values()]
                values[f"{split}/{what}"] = torch.stack(both).mean()
            check_followed(trainer, values, suffix, count)
            found |= {f"{name}{suffix}": value for name, value in values.items()}
        if found:
            bar = tuple(bar_names(split, self._trained.values(), self._shared))
            log_reduced(module, found, bar={k for k in found if k.startswith(bar)})


def loader_suffix(loader: int, count: int) -> str:
    """Return the suffix of a loader's metrics, as in Lightning; empty for a single loader."""
    return f"/dataloader_idx_{loader}" if count > 1 else ""


def check_followed(trainer: Trainer, names: Iterable[str], suffix: str, count: int) -> None:
    """Refuse to monitor a metric by its plain name if each of several loaders has its own.

    Args:
        trainer: The Trainer, with its callbacks and schedules.
        names: Plain names of the metrics.
        suffix: Suffix of one loader; empty for a single loader.
        count: Number of loaders.

    Raises:
        ValueError: If a callback or a schedule monitors one.
    """
    if not suffix or trainer.state.fn != "fit":
        return
    callbacks: list[object] = trainer.callbacks  # type: ignore[attr-defined]
    for one in (*callbacks, *trainer.lr_scheduler_configs):
        monitor = str(getattr(one, "monitor", None))
        if monitor in names:
            there = ", ".join(f"{monitor}/dataloader_idx_{i}" for i in range(count))
            raise ValueError(
                f"{type(one).__name__} monitors `{monitor}`, but there are {count} validation "
                f"loaders with separate metrics; set its `monitor` to one of {there}."
            )
