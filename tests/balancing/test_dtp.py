from __future__ import annotations

import math

import pytest
import torch

from tl.balancing import DynamicTaskPrioritization


def test_weights_are_focal_in_the_running_accuracy() -> None:
    method = DynamicTaskPrioritization(gamma=2.0, alpha=0.25)
    method.name_tasks(["easy", "hard"])
    method.update_accuracy(torch.tensor([0.8, 0.4]))
    method.update_accuracy(torch.tensor([1.0, 0.2]))
    easy, hard = 0.25 * 1.0 + 0.75 * 0.8, 0.25 * 0.2 + 0.75 * 0.4
    wanted = [-((1 - k) ** 2) * math.log(k) for k in (easy, hard)]
    assert wanted[0] < wanted[1]
    assert method(torch.tensor([1.0, 0.0])).item() == pytest.approx(wanted[0], rel=1e-5)
    assert method(torch.tensor([0.0, 1.0])).item() == pytest.approx(wanted[1], rel=1e-5)


def test_a_task_not_seen_keeps_its_accuracy_and_at_first_its_weight_of_one() -> None:
    method = DynamicTaskPrioritization()
    method.name_tasks(["a", "b"])
    method.update_accuracy(torch.tensor([0.5, torch.nan]))
    before = method.weights(torch.ones(2))
    assert before[1] == 1
    method.update_accuracy(torch.tensor([torch.nan, 0.5]))
    torch.testing.assert_close(method.weights(torch.ones(2)), before[[0, 0]])


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_the_ends_of_the_range_are_finite(accuracy: float) -> None:
    method = DynamicTaskPrioritization(floor=0.01)
    method.update_accuracy(torch.tensor([accuracy]))
    wanted = 0.0 if accuracy else -(0.99**2) * math.log(0.01)
    assert method.weights(torch.ones(1)).item() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("setting", [{"gamma": -1.0}, {"alpha": 0.0}, {"floor": 1.0}])
def test_refuses_settings_out_of_range(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        DynamicTaskPrioritization(**setting)
