from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.small import Tiny
from tl import MultiTaskModule
from tl.modules.losses import batch_losses, parameters_beside
from tl.tasks import Classification


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
