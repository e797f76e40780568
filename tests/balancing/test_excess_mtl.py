"""ExcessMTL against its algorithm in plain numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tl.balancing import ExcessMTL


def reference(steps: Any, eta: float) -> list[Any]:
    """Weights after each call (equations 6 to 9), scaled to sum to the number of tasks."""
    squares, weights, first, found = 0.0, np.ones(len(steps[0])), None, []
    for rows in steps:
        squares = squares + rows**2
        risks = (rows**2 / np.sqrt(squares + 1e-7)).sum(1)
        if first is None:
            first = risks
        else:
            weights = weights * np.exp(eta * risks / first)
            weights = weights / weights.sum() * len(weights)
        found.append(weights)
    return found


def test_weights_follow_the_algorithm() -> None:
    steps = np.random.default_rng(0).normal(size=(6, 3, 20)) * np.array([1.0, 10.0, 0.1])[:, None]
    steps[:, 2] *= np.linspace(1, 5, 6)[:, None]
    method = ExcessMTL(step_size=0.5)
    for rows, weights in zip(steps, reference(steps, 0.5), strict=True):
        found = method(torch.tensor(rows))
        np.testing.assert_allclose(found.numpy(), weights @ rows, rtol=1e-6)


def test_the_first_call_leaves_the_weights_and_the_next_barely_move_them() -> None:
    """Gradients of very different sizes starve no task: only relative risks count."""
    method = ExcessMTL()
    rows = torch.tensor([[100.0, 0.0], [0.0, 0.01]])
    assert torch.equal(method(rows), rows.sum(0))
    for _ in range(10):
        weights = method.weighting(rows)
    assert method.weighting.step_size == 0.01
    assert weights.tolist() == pytest.approx([1, 1], abs=0.01)


def test_a_task_without_a_first_gradient_leaves_finite_weights() -> None:
    method = ExcessMTL()
    method(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    found = method(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert found.isfinite().all()
    assert method.weighting(torch.eye(2)).isfinite().all()


def test_new_shared_parameters_keep_the_weights() -> None:
    method = ExcessMTL(step_size=1.0)
    for scale in (1.0, 3.0):
        weights = method.weighting(torch.tensor([[scale, 1.0], [1.0, 1.0]]))
    with pytest.warns(UserWarning, match=r"gradients changed from \(2, 2\) to \(2, 3\)"):
        after = method.weighting(torch.ones(2, 3))
    assert torch.equal(after, weights)


def test_a_step_with_an_absent_task_keeps_the_weights_of_the_others(lab: Any, step: Any) -> None:
    rows = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    balancer = lab.balancer(ExcessMTL(step_size=1.0), ("a", "b", "c"))
    for scale in (1.0, 3.0):
        step(balancer, [1, 1, 1], [[scale, 0.0], *rows[1:]])
    before = balancer.weights.clone()
    step(balancer, [1, 1, None], rows)
    a, b, c = balancer.weights.tolist()
    assert a / b > (before[0] / before[1]).item() / 2 > 1.5  # and not 1 and 1
    assert a + b == pytest.approx(2)
    assert np.isnan(c)
    assert torch.equal(balancer.method.weighting._weights, before)


@pytest.mark.parametrize("step_size", [0.0, -1.0, float("nan")])
def test_the_step_size_is_checked(step_size: float) -> None:
    with pytest.raises(ValueError, match="`step_size` must be positive, got"):
        ExcessMTL(step_size=step_size)
