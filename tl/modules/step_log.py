"""Values that are logged together at a training step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from tl.private.lightning import log_to_loggers, should_accumulate


def is_due(trainer: Trainer) -> bool:
    """Return at the end of a batch whether to log: after every n-th optimizer step.

    Batches between two steps, whose gradients are accumulated, are never logged.

    Args:
        trainer: The Trainer; n is its `log_every_n_steps`, 0 disables logging.
    """
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    if not every or trainer.global_step % every:
        return False
    return not should_accumulate(trainer.fit_loop)


class StepLog:
    """Passes values of a step to loggers, progress bar and callbacks.

    For values of a single step that are equal in all processes. Lightning's own `log` keeps a
    metric object for each, which takes about 1,700 Python calls each time; the result is the same,
    in one row of ``metrics.csv``.
    """

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def add(
        self, trainer: Trainer, values: Mapping[str, Tensor | float], bar: Iterable[str] = ()
    ) -> None:
        """Pass values of this step to callbacks, and some of them to the progress bar.

        Args:
            trainer: The Trainer.
            values: Numbers or scalar tensors by metric name.
            bar: Names of those for the progress bar.
        """
        shown = {name: float(values[name]) for name in bar if name in values}
        trainer.progress_bar_metrics.update(shown)
        tensors = {name: torch.as_tensor(value) for name, value in values.items()}
        trainer.callback_metrics.update(tensors)
        self._values.update(tensors)

    def write(self, trainer: Trainer) -> None:
        """Pass the added values to the loggers, under Lightning's count of steps."""
        if self._values:
            log_to_loggers(trainer, self._values)
            self._values = {}
