"""Prototypes against the formula written out, class by class."""

from __future__ import annotations

import pytest
import torch

from tl.tasks import Prototypes, as_task
from tl.tasks.prototypes import supports_and_queries

# classes 7, 2 and 4, mixed; 9 has a single sample, and one sample has no class
TARGET = torch.tensor([7, 2, 7, 4, 7, 2, 4, -1, 2, 4, 9, 7])
TASK = Prototypes("episodes", shots=2)


def features(scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(len(TARGET), 5, generator=torch.Generator().manual_seed(0))


def by_hand(z: torch.Tensor) -> tuple[float, int]:
    """Mean loss and number of right answers."""
    rows = {c: [i for i, t in enumerate(TARGET.tolist()) if t == c] for c in (7, 2, 4, 9)}
    means = {c: z[members[:2]].mean(0) for c, members in rows.items()}
    losses, right = [], 0
    for label, members in rows.items():
        for query in members[2:]:
            near = {c: -((z[query] - mean) ** 2).sum() for c, mean in means.items()}
            losses.append(torch.logsumexp(torch.stack([*near.values()]), 0) - near[label])
            right += max(near, key=lambda c: float(near[c])) == label
    return float(torch.stack(losses).mean()), right


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_loss_and_accuracy_are_the_formula(scale: float) -> None:
    z = features(scale).requires_grad_()
    loss, right = by_hand(z.detach())
    found = TASK.loss(z, TASK.settle(TARGET))
    assert float(found.detach()) == pytest.approx(loss, rel=1e-5, abs=1e-6)
    assert int(TASK.present(TARGET)) == 4
    assert int(TASK.tally(z, TARGET)[0]) == right
    metric = TASK.scores()["acc"]
    TASK.observe(metric, z.detach(), TARGET)
    assert float(metric.compute()) == pytest.approx(right / 4)
    found.backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert z.grad.isfinite().all()
    assert float(z.grad[7].abs().sum()) == 0  # without a class


def test_supports_come_first() -> None:
    supports, queries = supports_and_queries(TARGET, 2)
    assert supports.nonzero().flatten().tolist() == [0, 1, 2, 3, 5, 6, 10]
    assert queries.nonzero().flatten().tolist() == [4, 8, 9, 11]


def test_only_the_classes_numbers_order_counts() -> None:
    other = torch.where(TARGET < 0, TARGET, TARGET * 3 + 1)
    assert torch.equal(TASK.loss(features(), TARGET), TASK.loss(features(), other))


@pytest.mark.parametrize("target", [torch.arange(4), torch.full((4,), -1)])
def test_without_queries_the_loss_is_zero_with_a_gradient_of_zero(target: torch.Tensor) -> None:
    z = torch.randn(4, 3, requires_grad=True)
    loss = TASK.loss(z, target)
    loss.backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert float(loss) == float(z.grad.abs().sum()) == int(TASK.present(target)) == 0


def test_a_record_brings_the_task_back_and_mistakes_are_said() -> None:
    assert as_task(TASK.record()) == TASK
    with pytest.raises(ValueError, match="`shots` of task 'a' must be 1 or more, got 0"):
        Prototypes("a", shots=0)
    with pytest.raises(ValueError, match="expected whole numbers, one class per sample"):
        TASK.settle(torch.rand(3))
    with pytest.raises(ValueError, match="measure the network by `tl fewshot`"):
        TASK.answer(features())
