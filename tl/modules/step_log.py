"""What is logged at a step, at once and together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from tl.private.lightning import log_to_loggers, should_accumulate


def is_due(trainer: Trainer) -> bool:
    """Say at a batch's end whether it is time to log: after every n-th optimiser step.

    Not at the batches between two steps, of gradients that are added up.

    Args:
        trainer: The Trainer; its `log_every_n_steps` counts, 0 logs nothing.
    """
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    if not every or trainer.global_step % every:
        return False
    return not should_accumulate(trainer.fit_loop)


class StepLog:
    """Values of a step on their way to loggers, progress bar and callbacks.

    For values that are those of the step alone and equal in all processes. Lightning's own `log`
    keeps a metric object for each, which takes it about 1,700 Python calls every time; the outcome
    is the same, in one row of ``metrics.csv``.
    """

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def add(
        self, trainer: Trainer, values: Mapping[str, Tensor | float], bar: Iterable[str] = ()
    ) -> None:
        """Give callbacks values of this step, and some of them to the progress bar.

        Args:
            trainer: The Trainer.
            values: Numbers or scalars by metric name.
            bar: Names of those for the progress bar.
        """
        shown = {name: float(values[name]) for name in bar if name in values}
        trainer.progress_bar_metrics.update(shown)
        tensors = {name: torch.as_tensor(value) for name, value in values.items()}
        trainer.callback_metrics.update(tensors)
        self._values.update(tensors)

    def write(self, trainer: Trainer) -> None:
        """Hand what was added to the loggers; Lightning knows the step that they count."""
        if self._values:
            log_to_loggers(trainer, self._values)
            self._values = {}
