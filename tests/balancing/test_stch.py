"""STCH: the warm-up measures the nadir, then the smooth maximum of relative losses trains."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from tl.balancing import STCH

ROWS = [[1.0, 0.0], [0.0, 1.0]]
STREAM = [[4.0, 1.0], [2.0, 3.0], [1.0, 2.0], [3.0, 4.0], [0.5, 1.5], [0.25, 2.0]]


def reference(stream: Any, mu: float, warmup: int, per_epoch: int) -> list[Any]:
    """Derivatives by the losses, step by step."""
    found = []
    nadir = np.mean(stream[(warmup - 1) * per_epoch : warmup * per_epoch], axis=0)
    for number, losses in enumerate(np.array(stream)):
        if number < warmup * per_epoch:
            found.append(1 / losses)
        else:
            grown = (losses / nadir) ** (1 / mu)  # exp(log(l / z) / mu)
            found.append(len(losses) * grown / grown.sum() / losses)
    return found


@pytest.mark.parametrize("mu", [1.0, 0.3])
def test_weights_follow_the_algorithm(mu: float, lab: Any, step: Any) -> None:
    balancer = lab.balancer(STCH(mu=mu, warmup_epochs=2))
    for number, wanted in enumerate(reference(STREAM, mu, warmup=2, per_epoch=2)):
        balancer.begin(number // 2)
        step(balancer, STREAM[number], ROWS)
        assert balancer.weights.tolist() == pytest.approx(wanted.tolist(), rel=1e-5)


def test_the_defaults_are_the_authors() -> None:
    method = STCH()
    assert (method.mu, method.warmup_epochs) == (1.0, 5)


def test_the_nadir_is_a_mean_over_whole_steps_and_present_tasks(lab: Any, step: Any) -> None:
    balancer = lab.balancer(STCH(warmup_epochs=1))
    balancer.begin(0)
    step(balancer, [1.0, 2.0], ROWS, last=False)
    step(balancer, [3.0, 2.0], ROWS)  # a step of two micro-batches: 2 and 2
    step(balancer, [6.0, None], ROWS)
    balancer.begin(1)
    step(balancer, [4.0, 1.0], ROWS)
    # nadirs 4 and 2: T / z_i / sum_j (l_j / z_j)
    assert balancer.weights.tolist() == pytest.approx([2 / 4 / 1.5, 2 / 2 / 1.5])


def test_a_task_that_the_warm_up_never_saw_takes_its_first_loss(lab: Any, step: Any) -> None:
    balancer = lab.balancer(STCH(warmup_epochs=1))
    balancer.begin(0)
    step(balancer, [2.0, None], ROWS)
    balancer.begin(1)
    step(balancer, [2.0, 8.0], ROWS)
    assert balancer.weights.tolist() == pytest.approx([2 / 2 / 2, 2 / 8 / 2])
    step(balancer, [2.0, 4.0], ROWS)
    assert balancer.weights.tolist() == pytest.approx([2 / 2 / 1.5, 2 / 8 / 1.5])


def test_a_small_mu_trains_the_task_that_improved_least() -> None:
    method = STCH(mu=0.01, warmup_epochs=1)
    method.update_losses(torch.tensor([10.0, 1.0]))
    method.begin_epoch(1)
    values = torch.tensor([5.0, 0.9], requires_grad=True)
    found = method(values)
    assert found.item() == pytest.approx(2 * math.log(0.9), abs=1e-5)
    [slopes] = torch.autograd.grad(found, values)
    assert slopes.tolist() == pytest.approx([0.0, 2 / 0.9], abs=1e-5)


def test_a_run_that_ends_in_the_warm_up_is_told(lab: Any) -> None:
    module = lab.module(STCH(warmup_epochs=3))
    trainer = lab.trainer(max_epochs=3, limit_train_batches=0)
    batches = torch.utils.data.DataLoader(lab.stream(1), batch_size=None)
    with pytest.warns(UserWarning, match="STCH warms up for 3 epochs, but the run has 3"):
        trainer.fit(module, batches)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mu": 0.0}, "`mu` must be positive, got 0.0"),
        ({"warmup_epochs": 0}, "`warmup_epochs` must be 1 or more, got 0"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        STCH(**settings)


def test_a_negative_loss_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`STCH` takes losses of 0 or more, got -1\.0"):
        STCH()(torch.tensor([-1.0, 1.0]))
