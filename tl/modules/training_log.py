"""Losses and scores of training on their way to the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from tl.modules.finite import FiniteGuard
from tl.modules.owner import Owner
from tl.modules.score_log import bar_names, log_reduced, shared_scores
from tl.modules.step_log import StepLog, is_due
from tl.modules.window import Window
from tl.tasks import Task


class TrainingLog:
    """Mean loss and scores since they were last logged, by task and over all tasks.

    Args:
        tasks: The tasks by name.
        step_log: Takes the values of a step.
    """

    def __init__(self, tasks: Mapping[str, Task], step_log: StepLog) -> None:
        self._tasks = tasks
        self._window = Window(tasks)
        self._shared = shared_scores(tasks.values())
        self._step_log = step_log

    def add(
        self, losses: Mapping[str, Tensor], outputs: Mapping[str, tuple[Tensor, Tensor]]
    ) -> None:
        """Count a batch: losses, and outputs with targets, by task."""
        for name, loss in losses.items():
            self._window.add(name, loss.detach(), *outputs[name])

    def drop(self, tasks: Iterable[str]) -> None:
        """Forget what was counted of some tasks."""
        self._window.drop(tasks)

    def not_finite(self, module: Owner) -> list[str]:
        """Return the tasks whose loss was not finite since it was last logged."""
        return self._window.not_finite(module.trainer.strategy.reduce, module.device)

    def end_step(self, module: Owner, guard: FiniteGuard) -> None:
        """Log the means since the last time, every ``log_every_n_steps``-th optimiser step."""
        trainer = module.trainer
        if is_due(trainer):
            guard.read(module)
            bar = bar_names("train", self._tasks.values(), self._shared)
            self._step_log.add(trainer, self._values(module, guard), bar=bar)
            reduce = trainer.strategy.reduce
            penalties = module.penalty_values().items()
            self._step_log.add(
                trainer, {name: reduce(v.clone(), reduce_op="mean") for name, v in penalties}
            )
        self._step_log.write(trainer)

    def end_epoch(self, module: Owner, guard: FiniteGuard) -> None:
        """Log what the last steps of the epoch add."""
        guard.read(module)
        if values := self._values(module, guard):
            log_reduced(module, values, bar_names("train", self._tasks.values(), self._shared))
        if (missing := self._window.unlabelled()) and not guard.skipped:
            rank_zero_warn(
                f"No training sample had a target of {', '.join(map(repr, missing))} so far: its "
                "loss is 0 and its head learns nothing. Check the targets (-1 and NaN are missing)."
            )

    def _values(self, module: Owner, guard: FiniteGuard) -> dict[str, Tensor]:
        """Take the means over all processes since the last time, and count what was skipped."""
        values: dict[str, Tensor] = {}
        if guard.action == "skip":
            values["train/skipped_steps"] = torch.tensor(float(guard.skipped))
        means = self._window.means(module.trainer.strategy.reduce, module.device)
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

    def state(self, module: Owner) -> dict[str, Tensor]:
        """Return the sums over all processes by task, to be saved."""
        return self._window.state(module.trainer.strategy.reduce, module.device)

    def load(self, module: Owner, state: Mapping[str, Any]) -> None:
        """Continue with the sums of an earlier run, which the first process takes over."""
        if module.run is not None and module.run.is_global_zero:
            self._window.load(state)
