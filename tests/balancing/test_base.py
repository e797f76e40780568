"""What both kinds of balancing share: the losses of a step, and the seeded generator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tl.balancing import DynamicTaskPrioritization, StaticWeights
from tl.balancing.base import seeded
from tl.balancing.passes import MicroBatch


def micro_batch(labelled: dict[str, int], right: dict[str, int], *others: Tensor) -> MicroBatch:
    """Losses 2 and 4; `others` are the sums that other processes bring."""
    losses = {"a": torch.tensor(2.0, requires_grad=True), "b": torch.tensor(4.0)}

    def total(tensor: Tensor) -> Tensor:
        return torch.stack([tensor, *others]).sum(0)

    return MicroBatch(
        losses={task: losses[task] for task in labelled},
        labelled={task: torch.tensor(count) for task, count in labelled.items()},
        right={task: torch.tensor(count) for task, count in right.items()},
        step=0,
        seed=0,
        total=total,
        scaled=False,
    )


def balancer(lab: Any) -> Any:
    return lab.balancer(StaticWeights({"a": 1.0, "b": 1.0}))


def test_losses_are_averaged_over_the_processes_that_have_the_task(lab: Any) -> None:
    # another process: only the first task, with loss 6
    other = torch.tensor([[6.0, 0.0], [1.0, 0.0], [1.0, 0.0], [3.0, 0.0]])
    batch = micro_batch({"a": 5, "b": 5}, {"a": 1, "b": 1}, other)
    values, present = balancer(lab).observe(batch)
    assert values.tolist() == [4.0, 4.0]
    assert present == [True, True]
    assert not values.requires_grad


def test_a_task_without_labels_is_absent_and_stands_in_with_its_last_loss(lab: Any) -> None:
    ours = balancer(lab)
    values, present = ours.observe(micro_batch({"a": 5, "b": 0}, {"a": 0, "b": 0}))
    # never seen: as large as the mean of the others
    assert (values.tolist(), present) == ([2.0, 2.0], [True, False])
    ours.observe(micro_batch({"a": 5, "b": 5}, {"a": 0, "b": 0}))
    values, present = ours.observe(micro_batch({"a": 5}, {"a": 0}))
    assert (values.tolist(), present) == ([2.0, 4.0], [True, False])


def test_accuracy_is_counted_over_the_micro_batches_of_a_step(lab: Any) -> None:
    ours = lab.balancer(DynamicTaskPrioritization(alpha=1.0))
    ours.observe(micro_batch({"a": 6, "b": 0}, {"a": 1, "b": 0}))
    ours.observe(micro_batch({"a": 2, "b": 0}, {"a": 1, "b": 0}))
    ours.end_step()
    assert ours.method._accuracy[0] == 2 / 8
    assert ours.method._accuracy[1].isnan()
    ours.observe(micro_batch({"a": 2, "b": 4}, {"a": 2, "b": 1}))
    ours.end_step()
    assert ours.method._accuracy.tolist() == [1.0, 0.25]


def test_an_epoch_ends_where_the_next_one_begins(lab: Any) -> None:
    ours = balancer(lab)
    assert [ours.begin(epoch) for epoch in (0, 0, 1, 1, 2)] == [False, False, True, False, True]


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_seeded_draws_depend_on_the_seed_and_leave_the_run_alone(seed: int) -> None:
    before = torch.get_rng_state()
    draws = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        kept = torch.get_rng_state()
        with seeded(seed, torch.device("cpu")):
            draws.append(torch.rand(3))
        assert torch.equal(torch.get_rng_state(), kept)
    torch.set_rng_state(before)
    assert torch.equal(*draws)
