from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tl.balancing import GradNorm


def two(**settings: Any) -> GradNorm:
    method = GradNorm(**settings)
    method.name_tasks(["a", "b"])
    return method


def weights(method: GradNorm) -> Tensor:
    values = torch.ones(2, requires_grad=True)
    return torch.autograd.grad(method(values), values)[0]


def test_one_step_by_hand() -> None:
    """Adam's first step is the learning rate against the sign of the slope; then the sum is 2."""
    method = two(alpha=1.0, lr=0.1)
    # equal rates at first (L / L(0) = 1): targets are the mean norm, 2; a is above, b below
    method.update_gradients(torch.tensor([3.0, 1.0]), torch.tensor([5.0, 7.0]))
    torch.testing.assert_close(weights(method), torch.tensor([0.9, 1.1]), rtol=1e-5, atol=1e-6)


def test_the_derivative_equals_autograds_through_two_backward_passes() -> None:
    torch.manual_seed(0)
    layer, inputs = nn.Linear(4, 3, bias=False), torch.randn(5, 4)
    outputs = layer(inputs)
    losses = torch.stack([outputs.pow(2).mean(), (outputs - 4).abs().mean()])
    learned = torch.tensor([0.7, 1.3], requires_grad=True)
    norms = torch.stack(
        [
            torch.autograd.grad(w * loss, layer.weight, create_graph=True)[0].norm()
            for w, loss in zip(learned, losses, strict=True)
        ]
    )
    first = torch.tensor([2.0, 3.0])
    rate = losses.detach() / first
    target = (norms.mean() * (rate / rate.mean()) ** 1.5).detach()
    [wanted] = torch.autograd.grad((norms - target).abs().sum(), learned)

    method = two(alpha=1.5, lr=1.0)
    method._weights.copy_(learned.detach())
    method._first_losses = first
    stepped: list[Tensor] = []

    class Recorder(torch.optim.Adam):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            stepped.append(self.param_groups[0]["params"][0].grad.clone())

    method._optimizer = Recorder([method._weights])
    method.update_gradients(norms.detach(), losses.detach())
    torch.testing.assert_close(stepped[0], wanted)


def test_norms_of_weighted_gradients_become_equal_at_alpha_zero() -> None:
    method = two(alpha=0.0, lr=0.01)
    for _ in range(400):
        method.update_gradients(weights(method) * torch.tensor([1.0, 3.0]), torch.ones(2))
    torch.testing.assert_close(weights(method), torch.tensor([1.5, 0.5]), rtol=0.05, atol=0.0)


def test_a_slower_task_gains() -> None:
    method = two(alpha=1.5)
    method.update_gradients(torch.ones(2), torch.tensor([1.0, 1.0]))
    for _ in range(5):
        method.update_gradients(torch.ones(2), torch.tensor([0.9, 0.3]))
    assert weights(method)[0] > weights(method)[1]


def test_an_absent_task_leaves_the_weights() -> None:
    method = two()
    method.update_gradients(torch.tensor([3.0, torch.nan]), torch.ones(2))
    assert weights(method).tolist() == [1.0, 1.0]


def test_it_watches_the_last_block_that_trains_or_the_stage_named(lab: Any) -> None:
    for stage, module in (
        (None, lab.module(GradNorm())),
        ("stem", lab.module(GradNorm(stage="stem"))),
    ):
        lab.fit(module, lab.stream(3))
        assert module.balancer.weights.tolist() != [1.0, 1.0], stage
    with pytest.raises(ValueError, match=r"must be one of the backbone's: stem, top; got 'head'"):
        lab.fit(lab.module(GradNorm(stage="head")), lab.stream(1))


@pytest.mark.parametrize("setting", [{"alpha": -1.0}, {"lr": 0.0}, {"floor": 0.0}])
def test_refuses_settings_out_of_range(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        GradNorm(**setting)
