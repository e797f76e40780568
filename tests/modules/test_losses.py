from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.modules.test_kinds import KINDS, Signal, samples
from tests.small import Tiny
from tl import MultiTaskModule
from tl.modules.losses import batch_losses, parameters_beside
from tl.tasks import Classification


@pytest.mark.parametrize("kind", KINDS)
def test_double_precision_is_that_of_losses_and_gradients(kind: str) -> None:
    """Against central differences of a step of 1e-6, which float32 could not resolve."""
    torch.manual_seed(0)
    module = MultiTaskModule(Signal(), KINDS[kind]).double()
    inputs, targets = samples()
    batch = (inputs.double(), targets)

    def loss() -> Tensor:
        return torch.stack(
            [*batch_losses(module, batch, smooth=False, seen=None)[0].values()]
        ).sum()

    weights = [*module.backbone.parameters(), *module.heads.parameters()]
    gradients = torch.autograd.grad(loss(), weights)
    moves = [torch.randn_like(weight) for weight in weights]
    both = []
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            for weight, move in zip(weights, moves, strict=True):
                weight.add_(move, alpha=step)
            both.append(loss())
    wanted = sum(float((g * m).sum()) for g, m in zip(gradients, moves, strict=True))
    assert float(both[0] - both[1]) / 2e-6 == pytest.approx(wanted, rel=1e-6)


class Unreduced(Classification):
    def training_loss(self, output: Tensor, target: Tensor, smoothing: float) -> Tensor:
        return output.sum(1)


def test_a_loss_must_be_a_number() -> None:
    module = MultiTaskModule(Tiny(), [Unreduced("a", 2)])
    batch = (torch.zeros(3, 3, 8, 8), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"loss of task 'a' is a tensor of shape \(3,\)"):
        batch_losses(module, batch, smooth=False, seen=None)


def test_heads_of_absent_tasks_are_beside_a_loss_and_shared_ones_are_not() -> None:
    tasks = [
        Classification("a", 2),
        Classification("b", 2),
        Classification("there", 2, shares="a"),
    ]
    module = MultiTaskModule(Tiny(), tasks)
    assert parameters_beside(module, ["there"], ()) == [*module.heads["b"].parameters()]
