"""Seconds that training steps take, for rates."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from lightning.pytorch import LightningModule, Trainer

from tl.modules.base import SharedBackboneModule


class StepClock:
    """Time from the end of a step to the end of the next one.

    After a pause the next step only starts the clock: an epoch's first step starts workers and
    tunes kernels, and validation lies between two others.

    Args:
        now: Returns the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self._last: float | None = None

    def pause(self) -> None:
        """Leave out the time until the end of the next step."""
        self._last = None

    def waited(self) -> float | None:
        """Return the seconds since the last step ended; ``None`` after a pause."""
        return None if self._last is None else self.now() - self._last

    def tick(self) -> float | None:
        """End a step; return its seconds, or ``None`` for the first one after a pause."""
        now, last = self.now(), self._last
        self._last = now
        return None if last is None else now - last


def log_rates(trainer: Trainer, module: LightningModule, values: Mapping[str, float]) -> None:
    """Log values with the other ones of a training step.

    Args:
        trainer: The Trainer.
        module: Ours, which logs once per step, or any other.
        values: Values by metric name.
    """
    if isinstance(module, SharedBackboneModule):
        module.step_log.add(trainer, values)
    else:
        module.log_dict(dict(values))
