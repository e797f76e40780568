"""Affinity of tasks by an exact look-ahead: what a step for one does to the loss of another."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from tl.balancing.gradients import Rows
from tl.callbacks.gradient_diagnostics import rates_of
from tl.callbacks.task_measurement import (
    TaskMeasurement,
    beside_training,
    fill_rows,
    over_processes,
    trained_stages,
)
from tl.modules.batch import AnyBatch
from tl.modules.multitask import MultiTaskModule
from tl.questions.affinity import PairMeans, rank_correlation, with_both_known
from tl.questions.features import evaluating


class TaskAffinity(TaskMeasurement):
    """Measure now and then how a step for one task changes the loss of each.

    ``Z(i -> j) = 1 - L_j(theta - eta g_i) / L_j(theta)`` on the shared parameters theta (Fifty et
    al., 2021, arXiv:2109.04617, equation 1), with the plain gradient and the run's learning rate.
    Losses and gradients are those of the network in evaluation mode: batch norm keeps its
    statistics, and nothing is dropped. Parameters are restored bit for bit, and no random number is
    drawn, so that training is unaffected.

    :class:`GradientDiagnostics` measures the same to first order at a fraction of the cost; this
    callback checks it. Both are kept here too, in the same mode, and ``balance/affinity_agreement``
    is the rank correlation of their means over pairs of tasks. A measurement takes two forward
    passes and one backward pass per task.

    Args:
        every_n_steps: Optimizer steps between measurements, 1 or more.
        rate: Size of the step; ``null`` takes the learning rate of each stage.

    Attributes:
        exact: Means of the look-ahead over the measurements; ``None`` before the first.
        linear: Means to first order.

    Raises:
        ValueError: If a number is out of range; at the run's start, with fewer than two tasks.
    """

    def __init__(self, every_n_steps: int = 500, rate: float | None = None) -> None:
        super().__init__(every_n_steps)
        if rate is not None and not rate > 0:
            raise ValueError(f"`rate` must be above 0, got {rate}.")
        self.rate = rate
        self.exact: PairMeans | None = None
        self.linear: PairMeans | None = None

    def measure_step(
        self, trainer: Trainer, module: MultiTaskModule, batch: AnyBatch, step: int
    ) -> dict[str, float]:
        """Add to the means, and return how well look-ahead and first order agree."""
        tasks = list(module.trained_tasks)
        if self.exact is None or self.linear is None or self.exact.tasks != tasks:
            self.exact, self.linear = PairMeans(tasks), PairMeans(tasks)
        exact, linear = self.measure(trainer, module, batch)
        self.exact.add(exact)
        self.linear.add(linear)
        agreement = rank_correlation(self.exact.mean(), self.linear.mean())
        return {} if math.isnan(agreement) else {"balance/affinity_agreement": agreement}

    def measure(
        self, trainer: Trainer, module: MultiTaskModule, batch: AnyBatch
    ) -> tuple[Tensor, Tensor]:
        """Return affinities ``(T, T)`` by look-ahead and to first order, row i to column j."""
        stages = trained_stages(module)
        tasks = list(module.trained_tasks)
        if not stages:
            nothing = torch.full((len(tasks), len(tasks)), torch.nan)
            return nothing, nothing
        known = rates_of(trainer, stages)
        shared = [p for found in stages.values() for p in found]
        rates = torch.cat(
            [
                torch.full((p.numel(),), known[stage] if self.rate is None else self.rate)
                for stage, found in stages.items()
                for p in found
            ]
        ).to(shared[0].device)
        rows = Rows(shared, len(tasks))
        with beside_training(module), evaluating(module.backbone, module.heads):
            losses = fill_rows(trainer, module, batch, rows)
            before = over_processes(trainer, _stacked(losses, tasks))
            ahead = [
                over_processes(trainer, self._after(trainer, module, batch, rows, number, rates))
                for number in range(len(tasks))
            ]
        matrix = rows.matrix.double()
        linear = (matrix * rates.double()) @ matrix.T / before[None, :]
        exact = 1 - torch.stack(ahead) / before[None, :]
        return with_both_known(exact, before), with_both_known(linear, before)

    @torch.no_grad()
    def _after(
        self,
        trainer: Trainer,
        module: MultiTaskModule,
        batch: Any,  # noqa: ANN401
        rows: Rows,
        number: int,
        rates: Tensor,
    ) -> Tensor:
        """Return the losses ``(T,)`` after a step for one task; restore the parameters."""
        kept = [p.detach().clone() for p in rows.parameters]
        try:
            steps = rows.views(rates * rows.matrix[number])
            for p, step in zip(rows.parameters, steps, strict=True):
                p.sub_(step)
            with trainer.precision_plugin.forward_context():
                losses, _ = module.task_losses(batch, smooth=True)
        finally:
            for p, value in zip(rows.parameters, kept, strict=True):
                p.copy_(value)
        return _stacked(losses, list(module.trained_tasks))

    def state_dict(self) -> dict[str, Any]:
        """Save the means, so that a resumed run continues them."""
        return {
            "exact": None if self.exact is None else self.exact.state(),
            "linear": None if self.linear is None else self.linear.state(),
            "measured": self._measured,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the means."""
        self.exact, self.linear = (
            None if state_dict[key] is None else PairMeans.from_state(state_dict[key])
            for key in ("exact", "linear")
        )
        self._measured = state_dict["measured"]


def _stacked(losses: dict[str, Tensor], tasks: list[str]) -> Tensor:
    """Return losses in the order of the tasks ``(T,)`` float64, NaN where there is none."""
    device = next(iter(losses.values())).device
    missing = torch.full((), torch.nan, device=device)
    found = torch.stack([losses.get(task, missing).detach().double() for task in tasks])
    return found.masked_fill(found == 0, torch.nan)
