"""What the heads train on: plain gradients, the methods' weights, and the sums of `rescale`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchjd.aggregation
from torch import Tensor, nn
from torchjd.aggregation import NashMTL, UPGrad

from tl.balancing import Balancer, ExcessMTL, GradientAggregation
from tl.balancing.passes import Backward, MicroBatch

OVERLAYS = sorted(
    p.stem for p in (Path(__file__).parents[2] / "configs" / "balancing").glob("*.yaml")
)
TASKS = ("cifar10", "cifar100")
ROWS = torch.tensor([[1.0, 0.0, 0.5], [-2.0, 1.0, 0.25]])
HEADS = torch.tensor([[3.0, 0.0], [0.0, 0.5]])


def train(
    balancer: Balancer,
    micro_batches: Sequence[tuple[Sequence[float | None], Tensor]],
    shared: bool = True,
) -> tuple[Tensor, Tensor]:
    """One step on ``L_i = l_i + g_i . theta + k_i . h_i``: theta's gradient, the heads' weights.

    The mean over the micro-batches trains. A head's weight is what its ``k_i`` is multiplied by.
    """
    theta = nn.Parameter(torch.zeros(3), requires_grad=shared)
    heads = [nn.Parameter(torch.zeros(2)) for _ in balancer.tasks]
    for number, (losses, rows) in enumerate(micro_batches):
        found = {
            task: loss + row @ theta + k @ head
            for task, loss, row, k, head in zip(
                balancer.tasks, losses, rows, HEADS, heads, strict=True
            )
            if loss is not None
        }
        batch = MicroBatch(
            losses=found,
            labelled={task: torch.tensor(4) for task in found},
            right={task: torch.tensor(1 + i) for i, task in enumerate(found)},
            step=0,
            seed=5,
            total=lambda tensor: tensor,
            scaled=False,
        )
        run = Backward(
            batch=batch,
            loss=balancer.combine(batch) / len(micro_batches),
            stages={"all": [theta] if shared else []},
            last_block=[theta] if shared else [],
            own=heads,
            graphs=dict.fromkeys(found),
            last=number == len(micro_batches) - 1,
            scale=1.0,
            processes=1,
        )
        balancer.backward(run)
    gradients = [torch.zeros(2) if h.grad is None else h.grad for h in heads]
    weights = [g @ k / (k @ k) for g, k in zip(gradients, HEADS, strict=True)]
    return torch.zeros(3) if theta.grad is None else theta.grad, torch.stack(weights)


STEPS = (
    [([2.0, 0.5], ROWS)],
    [([1.5, 0.75], ROWS * 0.5), ([1.0, 0.25], ROWS.flip(0) + 0.1)],
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("micro_batches", STEPS, ids=["one", "accumulated"])
@pytest.mark.parametrize(("rescale", "total"), [("mean", 1.0), ("sum", 2.0)])
@pytest.mark.parametrize("name", OVERLAYS)
def test_rescale_evens_out_what_it_says(
    name: str, rescale: Any, total: float, micro_batches: Any, lab: Any
) -> None:
    balancer = lab.balancer(lab.method(name), TASKS, rescale)
    micro_batches = micro_batches * lab.micro_batches(name)
    for epoch in range(7):  # beyond first calls and warm-ups
        balancer.begin(epoch)
        update, heads = train(balancer, micro_batches)
        assert heads.sum().item() == pytest.approx(total, rel=1e-4), epoch
        if isinstance(balancer, GradientAggregation):
            rows = torch.stack([rows for _, rows in micro_batches]).mean(0)
            wanted = total * rows.mean(0).norm()
            assert update.norm().item() == pytest.approx(wanted.item(), rel=1e-4), epoch
            assert balancer.ratio is not None
            assert balancer.ratio.item() == pytest.approx(total, rel=1e-4)
        else:
            assert balancer.weights is not None
            assert balancer.weights.sum().item() == pytest.approx(total, rel=1e-4)
            if len(micro_batches) == 1:
                torch.testing.assert_close(balancer.weights, heads, rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(update, heads @ ROWS, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("rescale", "weight"), [("none", 1.0), ("mean", 0.5), ("sum", 1.0)])
def test_rescale_holds_with_a_frozen_backbone(rescale: Any, weight: float, lab: Any) -> None:
    for method in (UPGrad(), NashMTL(2), ExcessMTL()):
        _, heads = train(lab.balancer(method, TASKS, rescale), STEPS[0], shared=False)
        assert heads.tolist() == [weight, weight]


@pytest.mark.parametrize("rescale", ["none", "mean", "sum"])
def test_an_absent_task_does_not_count(rescale: Any, lab: Any) -> None:
    for method in (UPGrad(), ExcessMTL()):
        update, heads = train(lab.balancer(method, TASKS, rescale), [([2.0, None], ROWS)])
        torch.testing.assert_close(update, ROWS[0])
        assert heads.tolist() == [1, 0]


def test_weights_that_cannot_be_rescaled_are_refused(lab: Any) -> None:
    class Falling(torchjd.scalarization.Scalarizer):
        def forward(self, values: Tensor, /) -> Tensor:
            return values[0] - 2 * values[1]

    with pytest.raises(ValueError, match=r"`rescale='sum'` scales.* of Falling sum to -1 at step"):
        train(lab.balancer(Falling(), TASKS, "sum"), STEPS[0])


@pytest.mark.filterwarnings("ignore")
def test_nash_mtl_weighs_the_heads_by_its_solution(lab: Any) -> None:
    """``max_norm`` bounds the shared update only, as in the authors' code."""
    update, heads = train(lab.balancer(lab.method("nash_mtl"), TASKS), STEPS[0])
    np.testing.assert_allclose((ROWS @ ROWS.T @ heads).numpy(), 1 / heads.numpy(), rtol=1e-2)
    found = heads @ ROWS
    assert found.norm() > 1
    torch.testing.assert_close(update, found / found.norm(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", [ExcessMTL(0.5), torchjd.aggregation.ExcessMTL()])
def test_excess_mtl_weighs_the_heads_as_the_backbone(method: Any, lab: Any) -> None:
    balancer = lab.balancer(method, TASKS)
    train(balancer, STEPS[0])
    update, heads = train(balancer, [([2.0, 0.5], ROWS * torch.tensor([[3.0], [1.0]]))])
    assert heads[0] > heads[1]
    torch.testing.assert_close(heads, balancer.weights)
    torch.testing.assert_close(update, heads @ (ROWS * torch.tensor([[3.0], [1.0]])))


def test_other_methods_leave_the_heads_alone_unless_they_say_so(lab: Any) -> None:
    _, heads = train(lab.balancer(UPGrad(), TASKS), STEPS[1])
    assert heads.tolist() == [1, 1]
    method = torchjd.aggregation.Constant(torch.tensor([0.25, 4.0]))
    method.weights_heads = True  # type: ignore[assignment]
    _, heads = train(lab.balancer(method, TASKS), STEPS[1])
    torch.testing.assert_close(heads, torch.tensor([0.25, 4.0]))
