"""What happens around a scalarizer: epochs, a second look, absent tasks, sizes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torchjd.scalarization import DWA, FAMO, UW, GeometricMean, Sum

from tl.balancing import StaticWeights

ROWS = [[1.0, 0.0, 0.5], [-2.0, 1.0, 0.25]]


def test_the_value_and_the_gradient_are_the_scalarizers(lab: Any, step: Any) -> None:
    """Training on weights times losses is training on the scalarizer (chain rule)."""
    theta = torch.tensor([0.1, -0.2, 0.3], requires_grad=True)
    losses = torch.stack([2.0 + theta @ torch.tensor(ROWS[0]), 0.5 + theta @ torch.tensor(ROWS[1])])
    [wanted] = torch.autograd.grad(GeometricMean()(losses), theta)
    found = step(
        lab.balancer(GeometricMean()),
        [2.0, 0.5],
        ROWS,
        theta=torch.nn.Parameter(theta.detach().clone()),
    )
    torch.testing.assert_close(found, wanted)


def test_dwa_weighs_by_the_falls_of_two_epochs(lab: Any, step: Any) -> None:
    balancer = lab.balancer(DWA(2.0))
    for epoch, batches in enumerate(([(4.0, 4.0), (2.0, 4.0)], [(1.5, 3.0), (1.5, 5.0)])):
        for losses in batches:
            balancer.begin(epoch)
            step(balancer, losses, ROWS)
            assert balancer.weights.tolist() == [1, 1]
    balancer.begin(2)
    step(balancer, (1.0, 1.0), ROWS)
    rates = [math.exp(1.5 / 3.0 / 2), math.exp(4.0 / 4.0 / 2)]
    assert balancer.weights.tolist() == pytest.approx([2 * r / sum(rates) for r in rates], rel=1e-5)


def test_famo_sees_the_same_batch_before_and_after_the_step(lab: Any) -> None:
    module = lab.module(FAMO)
    [batch] = lab.stream(1)
    before = {t: loss.item() for t, loss in module.task_losses(batch, smooth=True)[0].items()}
    lab.fit(module, [batch])
    module.train()
    after = {t: loss.item() for t, loss in module.task_losses(batch, smooth=True)[0].items()}
    falls = torch.tensor([math.log(before[t]) - math.log(after[t]) for t in before])
    # the logits' gradient is the Jacobian of the softmax times the falls; Adam's first step is
    # the learning rate against its sign
    gradient = 0.5 * falls - 0.5 * falls.mean()
    torch.testing.assert_close(
        module.balancer.method._w.detach(), -0.025 * torch.sign(gradient), rtol=1e-3, atol=1e-6
    )


def test_famo_learns_from_all_micro_batches_of_a_step(lab: Any) -> None:
    module = lab.module(FAMO)
    batches = lab.stream(4)

    def losses() -> torch.Tensor:
        seen = [module.task_losses(batch, smooth=True)[0] for batch in batches[:2]]
        return torch.tensor([[found[t].item() for t in found] for found in seen]).mean(0)

    before = losses()
    lab.fit(module, batches[:2], accumulate_grad_batches=2)
    module.train()
    after = losses()
    weights = torch.zeros(2, requires_grad=True)
    fall = (before.log() - after.log()).detach()
    [gradient] = torch.autograd.grad(weights.softmax(0), weights, grad_outputs=fall)
    # the first moment of Adam is (1 - beta1) of its gradient
    [slots] = module.balancer.method._optimizer.state.values()
    torch.testing.assert_close(slots["exp_avg"], 0.1 * gradient, rtol=1e-3, atol=1e-7)


def test_the_second_look_of_an_absent_task_shows_no_fall(lab: Any) -> None:
    module = lab.module(FAMO)
    batches = [{"cifar10": batch["cifar10"], "cifar100": None} for batch in lab.stream(2)]
    lab.fit(module, batches, accumulate_grad_batches=2)
    method = module.balancer.method
    assert method._prev_losses[1] == 1  # never seen: the same before and after
    lab.fit(module, lab.stream(1))
    lab.fit(module, batches, accumulate_grad_batches=2)
    assert method._prev_losses[1] == module.balancer._last_losses[1]


def test_the_second_look_leaves_running_statistics(lab: Any) -> None:
    class Normed(torch.nn.Module):
        num_features = 3

        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            pooled: torch.Tensor = self.norm(images).relu().mean((2, 3))
            return pooled

    found = []
    for balancer in (FAMO, Sum()):
        module = lab.module(balancer)
        module.backbone = Normed()
        for head, task in module.heads.items():
            module.heads[head] = torch.nn.Linear(3, module.tasks[head].num_classes)
            del task
        lab.fit(module, lab.stream(1))
        found.append(
            (
                module.backbone.norm.running_mean.clone(),
                module.backbone.norm.num_batches_tracked.item(),
            )
        )
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1] == 1


def test_an_absent_task_stands_in_with_its_last_loss_and_gets_no_gradient(
    lab: Any, step: Any
) -> None:
    balancer = lab.balancer(GeometricMean())
    step(balancer, [2.0, 0.5], ROWS)
    found = step(balancer, [8.0, None], ROWS)
    # d sqrt(8 * 0.5) / d 8 = 2 / (2 * 8)
    torch.testing.assert_close(found, 0.125 * torch.tensor(ROWS[0]))


def test_learned_parameters_get_their_gradient(lab: Any, step: Any) -> None:
    balancer = lab.balancer(UW)
    step(balancer, [2.0, 0.5], ROWS)
    [log_var] = balancer.learned_parameters()
    torch.testing.assert_close(log_var.grad, torch.tensor([0.5 - 1.0, 0.5 - 0.25]))


@pytest.mark.parametrize(("rescale", "total"), [("mean", 1.0), ("sum", 2.0)])
def test_rescale_brings_the_weights_to_a_sum(
    rescale: Any, total: float, lab: Any, step: Any
) -> None:
    balancer = lab.balancer(StaticWeights({"a": 1.0, "b": 3.0}), rescale=rescale)
    step(balancer, [1.0, 1.0], ROWS)
    assert balancer.weights.tolist() == pytest.approx([total / 4, 3 * total / 4])


def test_sum_equals_no_balancer(lab: Any) -> None:
    one, other = lab.module(None), lab.module(Sum())
    for module in (one, other):
        lab.fit(module, lab.stream(3), accumulate_grad_batches=2)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_the_weights_in_force_are_logged(lab: Any) -> None:
    module = lab.module(StaticWeights({"cifar10": 1.0, "cifar100": 3.0}))
    trainer = lab.fit(module, lab.stream(2), log_every_n_steps=1)
    assert trainer.callback_metrics["balance/cifar100/weight"] == 3
    assert "balance/update_ratio" not in trainer.callback_metrics
    trainer = lab.fit(lab.module(lab.method("upgrad")), lab.stream(2), log_every_n_steps=1)
    assert trainer.callback_metrics["balance/update_ratio"] > 0
