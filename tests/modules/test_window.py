from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tl.modules.window import Window

CPU = torch.device("cpu")


def alone(values: Tensor, reduce_op: str) -> Tensor:
    assert reduce_op == "sum"
    return values


def test_means_are_over_samples_not_batches() -> None:
    window = Window(["a"])
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    window.add("a", torch.tensor(3.0), logits, torch.tensor([0, 0, 0]))
    window.add("a", torch.tensor(1.0), logits[:1], torch.tensor([1]))
    means = window.means(alone, CPU)
    assert means["a"]["loss"].item() == pytest.approx((3 * 3 + 1) / 4)
    assert means["a"]["acc"].item() == pytest.approx(2 / 4)
    assert window.means(alone, CPU) == {}


def test_processes_are_added() -> None:
    window = Window(["a"])
    window.add("a", torch.tensor(2.0), torch.eye(2), torch.tensor([0, 0]))
    other = torch.tensor([6 * 1.0, 6.0, 6.0])  # six more samples: loss 1, all right
    means = window.means(lambda values, **_: values + other, CPU)
    assert means["a"]["loss"].item() == pytest.approx((2 * 2 + 6) / 8)
    assert means["a"]["acc"].item() == pytest.approx(7 / 8)


def test_a_resumed_window_goes_on_with_the_sums_of_all_processes() -> None:
    first, second = Window(["a"]), Window(["a"])
    first.add("a", torch.tensor(2.0), torch.eye(2), torch.tensor([0, 0]))
    second.load(first.state(lambda values, **_: 2 * values, CPU))
    second.add("a", torch.tensor(5.0), torch.eye(2), torch.tensor([0, 1]))
    means = second.means(lambda values, **_: values, CPU)
    assert means["a"]["loss"].item() == pytest.approx((2 * 2 * 2 + 2 * 5) / 6)


def test_a_process_that_saw_nothing_of_a_task_takes_part_in_its_sum() -> None:
    seen, blind = Window(["a", "b"]), Window(["a", "b"])
    seen.add("b", torch.tensor(2.0), torch.eye(2), torch.tensor([0, 0]))
    blind.add("a", torch.tensor(4.0), torch.eye(2), torch.tensor([0, 1]))
    shares: list[Tensor] = []

    def other(values: Tensor, reduce_op: str) -> Tensor:
        assert reduce_op == "sum"
        shares.append(values)
        return values

    blind.means(other, CPU)
    means = seen.means(lambda values, **_: values + shares[0], CPU)
    assert {task: both["loss"].item() for task, both in means.items()} == {"a": 4.0, "b": 2.0}
