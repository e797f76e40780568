"""Measuring how tasks relate, every so many steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from tl.backbones.base import stages_of
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
        self,
        trainer: Trainer,
        module: MultiTaskModule,
        batch: Any,  # noqa: ANN401
        step: int,
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
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
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
