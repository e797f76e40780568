from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tl.modules.window import Window


def alone(values: Tensor, reduce_op: str) -> Tensor:
    assert reduce_op == "sum"
    return values


def test_means_are_over_samples_not_batches() -> None:
    window = Window()
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    window.add("a", torch.tensor(3.0), logits, torch.tensor([0, 0, 0]))
    window.add("a", torch.tensor(1.0), logits[:1], torch.tensor([1]))
    means = window.means(alone)
    assert means["a"]["loss"].item() == pytest.approx((3 * 3 + 1) / 4)
    assert means["a"]["acc"].item() == pytest.approx(2 / 4)
    assert window.means(alone) == {}


def test_processes_are_added() -> None:
    window = Window()
    window.add("a", torch.tensor(2.0), torch.eye(2), torch.tensor([0, 0]))
    other = torch.tensor([6 * 1.0, 6.0, 6.0])  # six more samples: loss 1, all right
    means = window.means(lambda values, **_: values + other)
    assert means["a"]["loss"].item() == pytest.approx((2 * 2 + 6) / 8)
    assert means["a"]["acc"].item() == pytest.approx(7 / 8)


def test_a_resumed_window_goes_on_with_the_sums_of_all_processes() -> None:
    first, second = Window(), Window()
    first.add("a", torch.tensor(2.0), torch.eye(2), torch.tensor([0, 0]))
    second.load(first.state(lambda values, **_: 2 * values))
    second.add("a", torch.tensor(5.0), torch.eye(2), torch.tensor([0, 1]))
    means = second.means(lambda values, **_: values)
    assert means["a"]["loss"].item() == pytest.approx((2 * 2 * 2 + 2 * 5) / 6)
