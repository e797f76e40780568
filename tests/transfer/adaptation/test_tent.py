from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.small import Staged
from tl.transfer.adaptation.tent import TentNetwork, mean_entropy


def test_entropy_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    sure = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert float(mean_entropy(logits)) == pytest.approx((sure + math.log(2)) / 2)
    pixels = logits.T.reshape(1, 2, 1, 2)
    assert float(mean_entropy(pixels)) == pytest.approx((sure + math.log(2)) / 2)


def test_a_step_changes_scales_and_shifts_alone_and_lowers_the_entropy() -> None:
    torch.manual_seed(0)
    net, head = Staged(), nn.Linear(8, 5).requires_grad_(requires_grad=False)
    images = torch.randn(32, 3, 32, 32)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    tent = TentNetwork(net, 1e-2)
    plain = copy.deepcopy(net)
    entropies = []

    def entropy(found: torch.Tensor) -> torch.Tensor:
        entropies.append(mean_entropy(head(found)))
        return entropies[-1]

    with torch.inference_mode():
        first = tent.answer(lambda network: network(images.clone()), entropy)
    assert torch.equal(first, plain(images))  # the answer is from before the step
    norms = {n for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for name, value in net.state_dict().items():
        layer, _, what = name.rpartition(".")
        changes = layer in norms and what in ("weight", "bias")
        assert torch.equal(value, before[name]) != changes, name
    for _ in range(20):
        tent.answer(lambda network: network(images), entropy)
    assert entropies[-1] < entropies[0]


def test_layers_that_an_answer_does_not_use_stay() -> None:
    """Of the streams of several tasks, as MTAN has them, a batch of one uses its own."""
    torch.manual_seed(0)
    used, other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    net = nn.ModuleDict({"used": used, "other": other})
    tent = TentNetwork(net, 1e-3)
    inputs = torch.randn(16, 3)
    tent.answer(lambda network: network.get_submodule("used")(inputs), mean_entropy)
    assert torch.equal(other.weight, torch.ones(3))
    assert not torch.equal(used.weight, torch.ones(3))


def test_the_first_step_is_adams() -> None:
    """Of size lr against the sign of the gradient, where that is not tiny."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.BatchNorm1d(3))
    inputs = torch.randn(16, 3)
    weight = torch.ones(3, requires_grad=True)
    hand = functional.batch_norm(inputs, None, None, weight, training=True)
    torch.autograd.backward(mean_entropy(hand))
    assert weight.grad is not None
    tent = TentNetwork(net, 1e-3)
    tent.answer(lambda network: network(inputs), mean_entropy)
    wanted = 1 - 1e-3 * weight.grad.sign()
    assert torch.allclose(net[0].get_parameter("weight"), wanted, atol=1e-6)


def test_a_network_without_scales_is_refused() -> None:
    with pytest.raises(ValueError, match="Tent adapts batch norm, and the backbone Linear has no"):
        TentNetwork(nn.Linear(2, 2), 1e-3)
    with pytest.raises(ValueError, match="scales and shifts, and there are none"):
        TentNetwork(nn.Sequential(nn.BatchNorm1d(2, affine=False)), 1e-3)
