"""Losses and scores of training, summed on the device until they are logged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from tl.modules.batch import Outputs
from tl.modules.score_log import bar_names, log_reduced, shared_scores
from tl.modules.step_log import is_due
from tl.tasks import Task

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule


class TrainingLog:
    """Mean loss and scores since they were last logged, by task and over all tasks.

    Args:
        tasks: The tasks by name, in an order that is the same in all processes: a process that has
            seen no sample of a task still takes part in its sum.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self._tasks = tasks
        self._lengths = {name: 1 + len(task.tallied) for name, task in tasks.items()}
        self._width = 1 + max(self._lengths.values())
        self._shared = shared_scores(tasks.values())
        self._sums: dict[str, Tensor] = {}
        self._labelled: set[str] = set()  # tasks with at least one target so far

    def add(self, losses: Mapping[str, Tensor], outputs: Outputs) -> None:
        """Add a batch to the sums.

        Args:
            losses: Mean loss over what has a target by task, scalars.
            outputs: By task, the output of the head and the targets as
                :meth:`tl.tasks.Task.truth` returns them.
        """
        self.take(self.sums_of(losses, outputs))

    def sums_of(self, losses: Mapping[str, Tensor], outputs: Outputs) -> dict[str, Tensor]:
        """Return what a batch adds by task ``(2 + S,)``: loss, scores and number of targets."""
        found: dict[str, Tensor] = {}
        for name, loss in losses.items():
            task, (output, target) = self._tasks[name], outputs[name]
            count = task.present(target)
            parts = [loss.detach().float() * count]
            parts += [part.float() for part in task.tally(output, target)]
            if (length := len(parts)) != self._lengths[name]:
                raise ValueError(
                    f"`tally` of task {name!r} returns {length - 1} sums, but `tallied` names "
                    f"{', '.join(task.tallied) or 'none'}."
                )
            parts += [parts[0].new_zeros(())] * (self._width - 1 - length)
            found[name] = torch.stack([*parts, count.float()])
        return found

    def take(self, batch: Mapping[str, Tensor]) -> None:
        """Add what :meth:`sums_of` returned for a batch."""
        for name, sums in batch.items():
            before = self._sums.get(name)
            self._sums[name] = sums if before is None else before.to(sums.device) + sums

    def clear(self) -> None:
        """Discard all sums."""
        self._sums = {}

    def drop(self, tasks: Iterable[str]) -> None:
        """Discard the sums of some tasks."""
        for task in tasks:
            self._sums.pop(task, None)

    def not_finite(self, module: SharedBackboneModule) -> list[str]:
        """Return the tasks whose loss was not finite since the last log, in any process."""
        losses = self._total(module)[:, 0].tolist()
        return [t for t, loss in zip(self._tasks, losses, strict=True) if not math.isfinite(loss)]

    def _total(self, module: SharedBackboneModule) -> Tensor:
        """Sum loss, scores and number of targets by task ``(T, 2 + S)`` over all processes."""
        nothing = torch.zeros(self._width)
        rows = [self._sums.get(task, nothing).to(module.device) for task in self._tasks]
        total: Tensor = module.trainer.strategy.reduce(torch.stack(rows), reduce_op="sum")
        return total

    def means(self, module: SharedBackboneModule) -> dict[str, dict[str, Tensor]]:
        """Return mean ``loss`` and scores by task over all processes, and reset the sums.

        Returns:
            Only tasks with a labelled sample in at least one process.
        """
        total = self._total(module)
        self.clear()
        there = (total[:, -1] > 0).tolist()
        self._labelled |= {name for name, any_ in zip(self._tasks, there, strict=True) if any_}
        return {
            name: {
                what: value / row[-1]
                for what, value in zip(("loss", *task.tallied), row[:-1])  # noqa: B905 - rows are as wide as the widest
            }
            for (name, task), row in zip(self._tasks.items(), total, strict=True)
            if row[-1] > 0
        }

    def end_step(self, module: SharedBackboneModule) -> None:
        """Log the means since the last time, every ``log_every_n_steps`` optimizer steps."""
        trainer, log = module.trainer, module.step_log
        if is_due(trainer):
            module.guard.read(module)
            bar = bar_names("train", self._tasks.values(), self._shared)
            log.add(trainer, self._values(module), bar=bar)
            reduce = trainer.strategy.reduce
            penalties = module.penalty_values().items()
            log.add(trainer, {name: reduce(v.clone(), reduce_op="mean") for name, v in penalties})
        log.write(trainer)

    def end_epoch(self, module: SharedBackboneModule) -> None:
        """Log what the last steps of the epoch add."""
        module.guard.read(module)
        if values := self._values(module):
            log_reduced(module, values, bar_names("train", self._tasks.values(), self._shared))
        missing = [repr(task) for task in self._tasks if task not in self._labelled]
        if missing and not module.guard.skipped:
            rank_zero_warn(
                f"No training sample had a target of {', '.join(missing)} so far: its loss is 0 "
                "and its head learns nothing. Check the targets (-1 and NaN mean missing)."
            )

    def _values(self, module: SharedBackboneModule) -> dict[str, Tensor]:
        """Return the means since the last time by metric name, and the number of skipped steps."""
        values: dict[str, Tensor] = {}
        if module.guard.action == "skip":
            values["train/skipped_steps"] = torch.tensor(float(module.guard.skipped))
        means = self.means(module)
        if not means:
            return values
        values |= {
            module.metric("train", task, what): value
            for task, both in means.items()
            for what, value in both.items()
        }
        values["train/loss"] = module.total_loss({t: both["loss"] for t, both in means.items()})
        for what in self._shared:
            if found := [each[what] for each in means.values() if what in each]:
                values[f"train/{what}"] = torch.stack(found).mean()
        return values

    # Checkpoints

    def state(self, module: SharedBackboneModule) -> dict[str, Tensor]:
        """Return the sums over all processes by task, to be saved."""
        return dict(zip(self._tasks, self._total(module).cpu(), strict=True))

    def load(self, module: SharedBackboneModule, state: Mapping[str, Any]) -> None:
        """Continue with the sums of an earlier run, in the first process."""
        if module.run is not None and module.run.is_global_zero:
            self._sums = {task: sums for task, sums in state.items() if task in self._tasks}
