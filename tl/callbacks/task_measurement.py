"""Measuring how tasks relate, every so many steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from tl.backbones.base import stages_of
from tl.balancing.gradients import Rows, add_task_gradients
from tl.modules.batch import AnyBatch
from tl.modules.multitask import MultiTaskModule


class TaskMeasurement(Callback, ABC):
    """Measure the tasks of a module before every so many of its steps.

    Args:
        every_n_steps: Optimizer steps between measurements, 1 or more.

    Raises:
        ValueError: If the number is below 1; at the run's start, with fewer than two tasks.
    """

    def __init__(self, every_n_steps: int) -> None:
        if every_n_steps < 1:
            raise ValueError(f"`every_n_steps` must be 1 or more, got {every_n_steps}.")
        self.every_n_steps = every_n_steps
        self._measured: int | None = None

    @abstractmethod
    def measure_step(
        self, trainer: Trainer, module: MultiTaskModule, batch: AnyBatch, step: int
    ) -> dict[str, float]:
        """Measure before a step.

        Returns:
            What is logged, by metric name.
        """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that there are several tasks to compare.

        Raises:
            ValueError: If the module has fewer than two tasks.
        """
        if not isinstance(pl_module, MultiTaskModule) or len(pl_module.trained_tasks) < 2:  # noqa: PLR2004
            raise ValueError(
                f"{type(self).__name__} compares the tasks of a MultiTaskModule, and this run has "
                "fewer than two."
            )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: AnyBatch, batch_idx: int
    ) -> None:
        """Measure before the step, if due, and log what was found."""
        step = trainer.global_step
        if step % self.every_n_steps or step == self._measured:
            return
        if not isinstance(pl_module, MultiTaskModule):
            return
        self._measured = step
        values = self.measure_step(trainer, pl_module, batch, step)
        for logger in trainer.loggers if values else ():
            logger.log_metrics(values, step)


def trained_stages(module: MultiTaskModule) -> dict[str, list[nn.Parameter]]:
    """Return the parameters that train by stage of the backbone, without stages that have none."""
    stages = {
        stage: [p for part in parts for p in part.parameters() if module.trains(p)]
        for stage, parts in stages_of(module.backbone).items()
    }
    return {stage: found for stage, found in stages.items() if found}


@contextmanager
def beside_training(module: MultiTaskModule) -> Iterator[None]:
    """Compute gradients and leave random numbers and running statistics as they are."""
    device = module.device
    kept = [(buffer, buffer.clone()) for buffer in module.buffers()]
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.enable_grad(),
    ):
        yield
    for buffer, before in kept:
        buffer.copy_(before)


def fill_rows(
    trainer: Trainer, module: MultiTaskModule, batch: AnyBatch, rows: Rows, scale: float = 1.0
) -> dict[str, Tensor]:
    """Compute the gradient of each task, averaged over the processes.

    Args:
        trainer: The Trainer, for its precision.
        module: The module.
        batch: The batch.
        rows: Receives the gradients.
        scale: Scale of the losses while they are differentiated, in 16-bit precision.

    Returns:
        Losses by task.
    """
    with trainer.precision_plugin.forward_context():
        losses, _ = module.task_losses(batch, smooth=True)
    factors = {task: torch.full_like(loss, scale) for task, loss in losses.items()}
    numbers = {task: number for number, task in enumerate(module.trained_tasks)}
    # sources may share a pass: keep the graph until the last
    add_task_gradients(rows, losses, factors, numbers, dict.fromkeys(losses))
    rows.matrix = over_processes(trainer, rows.matrix.div_(scale))
    return losses


def over_processes(trainer: Trainer, values: Tensor) -> Tensor:
    """Return the mean of a tensor over the processes."""
    if trainer.world_size == 1:
        return values
    summed: Tensor = trainer.strategy.reduce(values, reduce_op="sum")
    return summed / trainer.world_size
