"""SDMGrad and MoDo read the micro-batches of a step apart."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import nn, zeros

from tests.balancing.test_references import modo, sdmgrad
from tl.balancing import MoDo, SDMGrad

METHODS: dict[str, Any] = {
    "sdmgrad": (SDMGrad, sdmgrad, 3),
    # slow enough for its weights to stay off the corners, so that each step depends on the last
    "slow": (partial(SDMGrad, n_iter=2, lr=0.05), partial(sdmgrad, steps=2, rate=0.05), 3),
    "authors": (partial(SDMGrad, lr=10.0), partial(sdmgrad, rate=10.0), 3),
    "modo": (MoDo, modo, 2),
}


def batches(count: int, seed: int = 0) -> Any:
    """Gradients of two tasks in conflict, with noise, by batch."""
    noise = np.random.default_rng(seed).normal(size=(count, 2, 3))
    return np.array([[1.0, 0.0, 0.5], [-2.0, 1.0, 0.25]]) + 0.3 * noise


def one_step(balancer: Any, rows: Any, step: Any, **settings: Any) -> Any:
    """The update of a step of several micro-batches; a task without gradient is absent."""
    theta = nn.Parameter(torch.zeros(3))
    for number, row in enumerate(rows):
        absent = settings.get("absent") == number
        step(
            balancer,
            [1.0, None if absent else 2.0],
            row.tolist(),
            last=number == len(rows) - 1,
            micro_batches=settings.get("divided_by", len(rows)),
            theta=theta,
        )
    assert theta.grad is not None
    return theta.grad.numpy()


@pytest.mark.parametrize("name", METHODS)
def test_resumed_steps_equal_the_formula_on_their_batches(name: str, lab: Any, step: Any) -> None:
    method, reference, size = METHODS[name]
    balancer, weights = lab.balancer(method()), (0.5, 0.5)
    for number in range(3):
        rows = batches(size, number)
        before = weights
        wanted, weights = reference(*rows, weights=before)
        np.testing.assert_allclose(one_step(balancer, rows, step), wanted, rtol=1e-4, atol=1e-5)
        resumed = lab.balancer(method())
        resumed.load_state_dict(balancer.state_dict())
        balancer = resumed
        # each batch has its place: exchanged, they give something else
        assert np.abs(reference(*rows[::-1], weights=before)[0] - wanted).max() > 1e-3


@pytest.mark.parametrize("name", METHODS)
def test_more_micro_batches_take_turns(name: str, lab: Any, step: Any) -> None:
    method, reference, size = METHODS[name]
    rows = batches(2 * size + 1)  # the first batch has three of them, the others two
    wanted = reference(*[rows[number::size].mean(axis=0) for number in range(size)])[0]
    found = one_step(lab.balancer(method()), rows, step)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_a_shorter_step_takes_the_mean_and_leaves_no_trace(name: str, lab: Any, step: Any) -> None:
    method, _, size = METHODS[name]
    balancer = lab.balancer(method())
    one_step(balancer, batches(size), step)
    before = [buffer.clone() for buffer in balancer.method.buffers()]
    rows = batches(size - 1, 1)
    found = one_step(balancer, rows, step, divided_by=size)
    np.testing.assert_allclose(found, rows.sum(axis=0).mean(axis=0) / size, rtol=1e-5, atol=1e-6)
    assert balancer.weights.tolist() == [0.5, 0.5]
    assert all(map(torch.equal, before, balancer.method.buffers()))
    assert before


@pytest.mark.parametrize("name", METHODS)
def test_a_step_of_unequal_batches_takes_the_mean(name: str, lab: Any, step: Any) -> None:
    """The second batch lacks a task."""
    method, _, size = METHODS[name]
    balancer, rows = lab.balancer(method()), batches(size)
    found = one_step(balancer, rows, step, absent=1)
    rows[1, 1] = 0
    np.testing.assert_allclose(found, rows.mean(axis=(0, 1)), rtol=1e-5, atol=1e-6)
    assert balancer.weights.tolist() == [0.5, 0.5]
    assert not list(balancer.method.buffers())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", METHODS)
def test_a_shorter_step_without_any_label_is_no_step_of_the_backbone(name: str, lab: Any) -> None:
    method, _, size = METHODS[name]
    stream, modules = lab.stream(size + 1), [lab.module(method()) for _ in range(2)]
    stream[-1] = {s: (x, torch.full_like(labels, -1)) for s, (x, labels) in stream[-1].items()}
    for module, seen in zip(modules, (stream[:-1], stream), strict=True):
        lab.fit(module, seen, accumulate_grad_batches=size)
    one, two = (module.backbone.stem.weight for module in modules)
    assert torch.equal(one, two)
    assert modules[1].trainer.global_step == 2


@pytest.mark.parametrize("name", METHODS)
def test_a_task_that_all_batches_lack_is_absent(name: str, lab: Any, step: Any) -> None:
    method, reference, size = METHODS[name]
    balancer, rows, theta = lab.balancer(method(), "abc"), batches(size), nn.Parameter(zeros(3))
    for number, row in enumerate(rows):
        given = {"last": number == size - 1, "micro_batches": size, "theta": theta}
        step(balancer, [1.0, None, 2.0], [row[0].tolist(), [9.0] * 3, row[1].tolist()], **given)
    assert theta.grad is not None
    np.testing.assert_allclose(theta.grad.numpy(), reference(*rows)[0], rtol=1e-4, atol=1e-5)
    assert balancer.weights.isnan().tolist() == [False, True, False]
    assert not list(balancer.method.buffers())


def test_sdmgrad_solves_for_its_weights() -> None:
    """On one batch thrice, without noise, its weights minimise what the paper says.

    The authors' learning rate of 10 does not get there: its steps go from corner to corner.
    """
    rows = torch.tensor([[2.0, 0.5, 0.0], [-0.5, 1.0, 0.3]])
    update = SDMGrad()(rows.repeat(3, 1))
    shares = torch.linspace(0, 1, 1001)
    all_weights = torch.stack([shares, 1 - shares], dim=1) + 0.3 * 0.5
    best = (all_weights @ rows).norm(dim=1).argmin()
    assert 0 < best < 1000
    torch.testing.assert_close(update, all_weights[best] @ rows / 1.3, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", METHODS)
def test_too_few_micro_batches_are_refused(name: str, lab: Any) -> None:
    method, _, size = METHODS[name]
    said = rf"(SDMGrad|MoDo) reads {size} independent.*has 1; set `trainer.accumulate_grad_b.*"
    with pytest.raises(ValueError, match=said):
        lab.fit(lab.module(method()), lab.stream(2 * size))
    changes = GradientAccumulationScheduler({0: size, 1: 1})
    module, stream = lab.module(method()), lab.stream(size)
    with pytest.raises(ValueError, match=said):
        lab.fit(module, stream, max_epochs=2, callbacks=[changes])
    assert module.trainer.global_step == 1
    said = rf"(SDMGrad|MoDo) reads {size} independent.* an epoch has {size - 1}; take smaller"
    with pytest.raises(ValueError, match=said):
        lab.fit(lab.module(method()), stream[1:], accumulate_grad_batches=size)


@pytest.mark.parametrize(
    ("method", "given"),
    [(SDMGrad, {"lambda_": -1.0}), (SDMGrad, {"n_iter": 0}), (MoDo, {"gamma": 0.0})],
)
def test_arguments_out_of_range_are_refused(method: Any, given: Any) -> None:
    [name] = given
    with pytest.raises(ValueError, match=name):
        method(**given)
