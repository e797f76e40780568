from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tl import Classification, Regression
from tl.modules.window import Window

CPU = torch.device("cpu")


def alone(values: Tensor, reduce_op: str) -> Tensor:
    assert reduce_op == "sum"
    return values


def window_of(*names: str) -> Window:
    return Window({name: Classification(name, 2) for name in names})


def test_means_are_over_samples_not_batches() -> None:
    window = window_of("a")
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    window.add("a", torch.tensor(3.0), logits, torch.tensor([0, 0, 0]))
    window.add("a", torch.tensor(1.0), logits[:1], torch.tensor([1]))
    means = window.means(alone, CPU)
    assert means["a"]["loss"].item() == pytest.approx((3 * 3 + 1) / 4)
    assert means["a"]["acc"].item() == pytest.approx(2 / 4)
    assert window.means(alone, CPU) == {}


def test_processes_are_added() -> None:
    window = window_of("a")
    window.add("a", torch.tensor(2.0), torch.eye(2), torch.tensor([0, 0]))
    other = torch.tensor([6 * 1.0, 6.0, 6.0])  # six more samples: loss 1, all right
    means = window.means(lambda values, **_: values + other, CPU)
    assert means["a"]["loss"].item() == pytest.approx((2 * 2 + 6) / 8)
    assert means["a"]["acc"].item() == pytest.approx(7 / 8)


def test_a_resumed_window_goes_on_with_the_sums_of_all_processes() -> None:
    first, second = window_of("a"), window_of("a")
    first.add("a", torch.tensor(2.0), torch.eye(2), torch.tensor([0, 0]))
    second.load(first.state(lambda values, **_: 2 * values, CPU))
    second.add("a", torch.tensor(5.0), torch.eye(2), torch.tensor([0, 1]))
    means = second.means(lambda values, **_: values, CPU)
    assert means["a"]["loss"].item() == pytest.approx((2 * 2 * 2 + 2 * 5) / 6)


def test_a_process_that_saw_nothing_of_a_task_takes_part_in_its_sum() -> None:
    seen, blind = window_of("a", "b"), window_of("a", "b")
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


def test_each_task_counts_what_it_has() -> None:
    tasks = Classification("a", 2), Regression("b"), Classification("c", 2, multi_label=True)
    window = Window({task.name: task for task in tasks})
    window.add("a", torch.tensor(2.0), torch.eye(2), torch.tensor([0, 0]))
    numbers = torch.tensor([[2.0], [torch.nan]])
    window.add("b", torch.tensor(3.0), torch.tensor([[1.0], [4.0]]), numbers)
    window.add("c", torch.tensor(4.0), torch.eye(2), torch.tensor([[0, 1], [1, -1]]))
    means = window.means(alone, CPU)
    assert {t: {k: float(v) for k, v in each.items()} for t, each in means.items()} == {
        "a": {"loss": 2.0, "acc": 0.5},
        "b": {"loss": 3.0, "mae": 1.0},
        "c": {"loss": 4.0},
    }
