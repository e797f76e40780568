from __future__ import annotations

import pytest
import torch
from torch import nn

from tl.balancing.gradients import Rows, accumulate, add_gradients, add_task_gradients


def test_rows_are_the_gradients_and_heads_get_their_sum() -> None:
    torch.manual_seed(0)
    shared, heads = nn.Linear(3, 4), nn.ModuleList([nn.Linear(4, 2), nn.Linear(4, 2)])
    features = shared(torch.randn(5, 3)).tanh()
    losses = {str(i): head(features).pow(2).sum() for i, head in enumerate(heads)}
    wanted = [
        torch.autograd.grad(loss, list(shared.parameters()), retain_graph=True)
        for loss in losses.values()
    ]
    sums = torch.autograd.grad(sum(losses.values()), list(heads.parameters()), retain_graph=True)
    rows = Rows(list(shared.parameters()), 2)
    add_task_gradients(
        rows,
        losses,
        dict.fromkeys(losses, torch.tensor(0.5)),
        {"0": 0, "1": 1},
        dict.fromkeys(losses, "one graph"),
        list(heads.parameters()),
    )
    for row, gradients in zip(rows.matrix, wanted, strict=True):
        for view, gradient in zip(rows.views(row), gradients, strict=True):
            torch.testing.assert_close(view, 0.5 * gradient)
    for p, gradient in zip(heads.parameters(), sums, strict=True):
        torch.testing.assert_close(p.grad, 0.5 * gradient)
    assert all(p.grad is None for p in shared.parameters())


class Counting(torch.autograd.Function):
    """Counts the samples that pass backward."""

    samples = 0

    @staticmethod
    def forward(_: object, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(_: object, gradient: torch.Tensor) -> torch.Tensor:
        Counting.samples += len(gradient)
        return gradient


def test_separate_graphs_together_cost_one_backward_pass() -> None:
    layer = nn.Linear(3, 2)

    def loss(count: int) -> torch.Tensor:
        return Counting.apply(layer(torch.randn(count, 3))).sum()  # type: ignore[no-any-return]

    for graphs, wanted in (({"a": "a", "b": "b"}, 12), ({"a": "ab", "b": "ab"}, 24)):
        shared = layer(torch.randn(12, 3))
        losses = {"a": loss(5), "b": loss(7)}
        if graphs["a"] == "ab":
            features = Counting.apply(shared)
            losses = {"a": features[:5].sum(), "b": features[5:].sum()}
        Counting.samples = 0
        rows = Rows(list(layer.parameters()), 2)
        factors = dict.fromkeys(losses, torch.tensor(1.0))
        add_task_gradients(rows, losses, factors, {"a": 0, "b": 1}, graphs)
        assert Counting.samples == wanted


def test_rows_keep_the_memory_order_of_channels_last_weights() -> None:
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    rows = Rows(list(conv.parameters()), 1)
    gradient = torch.randn(4, 3, 3, 3)
    rows.add(0, [gradient, None])
    rows.write(rows.matrix[0])
    assert conv.weight.grad is not None
    assert conv.weight.grad.stride() == conv.weight.stride()
    torch.testing.assert_close(conv.weight.grad, gradient)
    rows.write(torch.ones_like(rows.matrix[0]))
    torch.testing.assert_close(conv.weight.grad, gradient + 1)


def test_a_part_of_a_loss_adds_its_own_gradient_with_the_losss_factor() -> None:
    layer, other = nn.Linear(2, 1, bias=False), nn.Linear(2, 1)
    part, rest = layer.weight.square().sum(), layer.weight.sum() * 7
    layer.weight.grad = torch.ones(1, 2)
    for _ in range(2):  # the graph is kept
        add_gradients(0.5 * (part + rest), part, [*layer.parameters(), *other.parameters()])
    torch.testing.assert_close(layer.weight.grad, 1 + 2 * layer.weight.detach())
    assert other.weight.grad is None
    add_gradients(rest + 1, torch.ones(()), list(layer.parameters()))  # all of it is frozen
    torch.testing.assert_close(layer.weight.grad, 1 + 2 * layer.weight.detach())


@pytest.mark.parametrize("before", [False, True])
def test_gradients_have_the_memory_layout_of_their_parameter(before: bool) -> None:
    weights = nn.Parameter(torch.zeros(2, 3, 2, 2).to(memory_format=torch.channels_last))
    gradient = torch.arange(24.0).view(2, 3, 2, 2)
    if before:
        accumulate(weights, torch.ones(2, 3, 2, 2))
    accumulate(weights, gradient)
    assert weights.grad is not None
    assert weights.grad.stride() == weights.stride()
    assert torch.equal(weights.grad, gradient + before)
