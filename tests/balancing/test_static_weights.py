from __future__ import annotations

import pytest
import torch

from tl.balancing import StaticWeights


def test_weighs_by_name_not_by_order() -> None:
    method = StaticWeights({"a": 2.0, "b": 3.0})
    method.name_tasks(["b", "a"])
    assert method(torch.tensor([10.0, 1.0])).item() == 32.0


@pytest.mark.parametrize("weights", [{}, {"a": -1.0}, {"a": float("nan")}, {"a": float("inf")}])
def test_refuses_weights_out_of_range(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="weight"):
        StaticWeights(weights)


def test_asks_for_the_tasks_first() -> None:
    with pytest.raises(ValueError, match="name_tasks"):
        StaticWeights({"a": 1.0})(torch.ones(1))
