from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.transfer.penalties.steps import images, network
from tl.transfer.channel_attention import attention_of, gather, loss_increases, probe


def test_attention_is_a_softmax_of_standardised_increases() -> None:
    # mean 2, deviation sqrt(8 / 3)
    found = attention_of(torch.tensor([0.0, 2.0, 4.0]), temperature=5.0)
    z = 2 / math.sqrt(8 / 3) / 5
    powers = [math.exp(-z), 1.0, math.exp(z)]
    assert found.tolist() == pytest.approx([p / sum(powers) for p in powers])
    scaled = attention_of(torch.tensor([1.0, 21.0, 41.0]), temperature=5.0)
    torch.testing.assert_close(scaled, found)
    assert attention_of(torch.ones(4), 5.0).tolist() == pytest.approx([0.25] * 4)


def test_an_increase_is_that_of_a_network_without_the_filter() -> None:
    backbone, heads = network()
    samples = [(images(4), torch.arange(4)), (images(3, seed=2), torch.arange(3))]
    found = loss_increases(backbone, heads["task"], samples, ["conv"])["conv"]
    pixels = torch.cat([inputs for inputs, _ in samples])
    target = torch.cat([labels for _, labels in samples])
    before = {name: p.clone() for name, p in backbone.state_dict().items()}
    whole = functional.cross_entropy(heads["task"](backbone(pixels)), target)
    for channel in range(4):
        backbone.load_state_dict(before)
        with torch.no_grad():
            backbone.get_parameter("conv.weight")[channel] = 0
            backbone.get_parameter("conv.bias")[channel] = 0
        without = functional.cross_entropy(heads["task"](backbone(pixels)), target)
        assert float(found[channel]) == pytest.approx(float((without - whole).detach()), abs=1e-6)
    assert not backbone.get_submodule("conv")._forward_hooks


def test_the_probe_learns_and_repeats() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 6, generator=generator)
    target = (features[:, 0] > 0).long()
    state = torch.get_rng_state()
    one, two = probe(features, target, 2), probe(features, target, 2)
    assert torch.equal(torch.get_rng_state(), state)  # training's own numbers are left alone
    assert torch.equal(one.weight, two.weight)
    assert float((one(features).argmax(1) == target).float().mean()) > 0.95


def test_samples_are_drawn_from_all_and_only_labelled_ones() -> None:
    batches = [
        (torch.arange(50.0 * i, 50 * (i + 1))[:, None], torch.arange(50) % 3 - 1) for i in range(4)
    ]
    features, labels, samples = gather(nn.Identity(), batches, 40)
    assert len(features) == len(labels) == sum(int((y >= 0).sum()) for _, y in batches)
    assert [len(target) for _, target in samples] == [32, 8]
    drawn = torch.cat([torch.as_tensor(inputs) for inputs, _ in samples]).flatten()
    assert len(set(drawn.tolist())) == 40
    assert {int(value) // 50 for value in drawn} == {0, 1, 2, 3}
    for inputs, target in samples:
        assert torch.equal(torch.as_tensor(inputs).flatten().long() % 50 % 3 - 1, target)
    with pytest.raises(ValueError, match="no training image has a label"):
        gather(nn.Identity(), [(torch.ones(2, 1), torch.full((2,), -1))], 4)
