from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.transfer.penalties.steps import network, start, step
from tl.transfer.penalties import L2SP
from tl.transfer.penalties.l2_sp import squared_distance


def test_the_value_by_hand() -> None:
    backbone, heads = nn.Linear(2, 1), nn.ModuleDict({"task": nn.Linear(1, 1)})
    fill(backbone, [[1.0, 2.0]], [0.5])
    fill(heads["task"], [[3.0]], [1.0])
    penalty = L2SP(alpha=0.2, beta=0.4)
    penalty.attach(backbone, heads)
    penalty.start(start(backbone, heads, "source.ckpt"))
    fill(backbone, [[1.5, 1.0]], [0.5])
    distance, size = 0.5**2 + 1**2, 3**2 + 1**2
    term = penalty(step(backbone, heads, torch.ones(1, 2), torch.zeros(1, dtype=torch.long)))
    assert float(term) == pytest.approx(0.1 * distance + 0.2 * size)


def fill(layer: nn.Module, weight: list[list[float]], bias: list[float]) -> None:
    assert isinstance(layer, nn.Linear)
    layer.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})


def test_the_gradient_pulls_back_to_the_start() -> None:
    backbone, heads = network()
    penalty = L2SP(alpha=0.5, beta=0.0)
    penalty.attach(backbone, heads)
    penalty.start(start(backbone, heads, "source.ckpt"))
    before = [p.detach().clone() for p in backbone.parameters()]
    with torch.no_grad():
        for p in backbone.parameters():
            p.add_(1)
    penalty(step(backbone, heads, torch.zeros(1, 3, 32, 32), torch.zeros(1))).backward()
    for p, old in zip(backbone.parameters(), before, strict=True):
        torch.testing.assert_close(p.grad, 0.5 * (p - old))


def test_decay_is_off_where_the_term_acts() -> None:
    assert L2SP().decays() == {"backbone", "head"}
    assert L2SP(beta=0).decays() == {"backbone"}
    assert L2SP(alpha=0).decays() == {"head"}


def test_half_precision_is_summed_in_single() -> None:
    ones = torch.ones(1000, dtype=torch.bfloat16)
    assert float(squared_distance([(ones, torch.zeros(1000))] * 3)) == 3000
    assert squared_distance([(ones, torch.zeros_like(ones))]).dtype == torch.float32


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_a_negative_strength_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` must be 0 or more, got -1"):
        L2SP(**{name: -1})


def test_a_term_that_was_never_attached_says_so() -> None:
    backbone, heads = network()
    with pytest.raises(ValueError, match="must be attached to a model first"):
        L2SP()(step(backbone, heads, torch.zeros(1, 3, 32, 32), torch.zeros(1)))
