from __future__ import annotations

import pytest
import torch
from torch import nn

from tl.transfer.hyper_rule import BiTHyperRule, hyper_rule_steps


def rates(steps: int) -> list[float]:
    """Learning rate of each step of a run."""
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.003)
    schedule = BiTHyperRule(optimizer, total_steps=steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def authors(step: int, supports: list[int]) -> float:
    """``get_lr`` of the paper's code as it is told there; ``step`` counts from 0."""
    if step < supports[0]:
        return 0.003 * step / supports[0]
    return float(0.003 / 10 ** sum(support < step for support in supports[1:]))


@pytest.mark.parametrize(
    ("images", "steps"),
    [
        *[(1, 500), (1_000, 500), (19_999, 500)],
        *[(20_000, 10_000), (45_000, 10_000), (499_999, 10_000)],
        *[(500_000, 20_000), (1_281_167, 20_000)],
    ],
)
def test_steps_by_the_size_of_the_data(images: int, steps: int) -> None:
    assert hyper_rule_steps(images) == steps


@pytest.mark.parametrize(
    "supports",
    [
        [100, 200, 300, 400, 500],
        [500, 3_000, 6_000, 9_000, 10_000],
        [500, 6_000, 12_000, 18_000, 20_000],
    ],
)
def test_the_schedule_is_the_authors_one_step_earlier(supports: list[int]) -> None:
    found = rates(supports[-1])
    expected = [authors(step, supports) for step in range(1, supports[-1] + 1)]
    assert found == pytest.approx(expected, rel=1e-9)


def test_warm_up_and_drops_by_hand() -> None:
    found = rates(10_000)
    assert found[0] == pytest.approx(0.003 / 500)
    assert found[499] == pytest.approx(0.003)
    for first, last, rate in (
        (499, 2_999, 3e-3),
        (3_000, 5_999, 3e-4),
        (6_000, 8_999, 3e-5),
        (9_000, 9_999, 3e-6),
    ):
        assert found[first] == found[last] == pytest.approx(rate)


def test_a_run_of_another_length_keeps_the_shares() -> None:
    assert [round(rate / 0.003, 6) for rate in rates(10)] == [
        *[0.5, 1.0, 1.0, 1.0],
        *[0.1, 0.1, 0.01, 0.01, 0.001, 0.001],
    ]


def test_refuses_numbers_out_of_range() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.003)
    for steps in (None, 0):
        with pytest.raises(ValueError, match=f"`total_steps` must be 1 or more, got {steps}"):
            BiTHyperRule(optimizer, total_steps=steps)
    with pytest.raises(ValueError, match="`images` must be 1 or more, got 0"):
        hyper_rule_steps(0)
