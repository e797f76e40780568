from __future__ import annotations

from typing import Any

import pytest
from lightning.pytorch import Trainer

from tests.callbacks.test_gradient_diagnostics import fit, module
from tl.callbacks.task_measurement import TaskMeasurement, trained_stages
from tl.modules import MultiTaskModule


class Steps(TaskMeasurement):
    """Remembers at which steps it measured."""

    def __init__(self, every_n_steps: int) -> None:
        super().__init__(every_n_steps)
        self.steps: list[int] = []

    def measure_step(
        self, trainer: Trainer, module: MultiTaskModule, batch: Any, step: int
    ) -> dict[str, float]:
        self.steps.append(step)
        return {}


def test_a_step_is_measured_once_on_its_first_batch() -> None:
    every, second = Steps(1), Steps(2)
    fit(module(), every, second, accumulate_grad_batches=2, count=6)
    assert every.steps == [0, 1, 2]
    assert second.steps == [0, 2]


def test_a_number_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="`every_n_steps` must be 1 or more, got 0"):
        Steps(0)


def test_stages_without_a_parameter_that_trains_are_left_out() -> None:
    ours = module()
    before = trained_stages(ours)
    first = next(iter(before))
    for parameter in before[first]:
        parameter.requires_grad = False
    after = trained_stages(ours)
    assert list(after) == [stage for stage in before if stage != first]
