from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from tl.modules.schedule import WarmupCosine, total_steps_of


def optimizer() -> Optimizer:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)


def rates(scheduler: WarmupCosine, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(float(scheduler.get_last_lr()[0]))
        scheduler.optimizer.step()
        scheduler.step()
    return found


def test_values_by_hand() -> None:
    found = rates(WarmupCosine(optimizer(), total_steps=8, warmup=0.5, final=0.1), 9)
    rise = [0.5, 1.0, 1.5, 2.0]
    fall = [2.0 * (0.1 + 0.9 / 2 * (1 + math.cos(math.pi * k / 4))) for k in range(5)]
    assert found == pytest.approx(rise + fall)
    assert found[-1] == pytest.approx(0.2)


@pytest.mark.parametrize(("name", "value"), [("total_steps", 0), ("warmup", 1.0), ("final", -0.1)])
def test_out_of_range(name: str, value: float) -> None:
    arguments = {"total_steps": 10, name: value}
    with pytest.raises(ValueError, match=f"`{name}` must be .*, got {value}"):
        WarmupCosine(optimizer(), **arguments)  # type: ignore[arg-type]


def test_total_steps_are_filled_in_where_they_are_taken_and_not_given() -> None:
    def count() -> int:
        return 77

    assert total_steps_of(WarmupCosine, count) == ({"total_steps": 77}, True)
    assert total_steps_of(partial(OneCycleLR, max_lr=1.0), count) == ({"total_steps": 77}, True)
    assert total_steps_of(partial(WarmupCosine, total_steps=5), count) == ({}, True)
    assert total_steps_of(partial(CosineAnnealingLR, T_max=5), count) == ({}, False)
    assert total_steps_of(lambda o: CosineAnnealingLR(o, T_max=5), count) == ({}, False)
