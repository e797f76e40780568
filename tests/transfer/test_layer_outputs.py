from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.small import Staged
from tl.backbones import LoraBackbone, ResNet20, ResNet50
from tl.transfer.layer_outputs import channels_of, last_convolutions, outputs_of, zeroed_channel


def test_outputs_of_each_pass_are_kept_with_their_graph() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    passes = [torch.ones(4, 2), torch.zeros(2, 2)]
    with outputs_of(network, ["0", "2"]) as found:
        answers = [network(inputs) for inputs in passes]
    network(passes[0])  # outside
    assert [len(each) for each in found["0"]] == [4, 2]
    assert all(torch.equal(a, b) for a, b in zip(found["2"], answers, strict=True))
    assert all(output.requires_grad for output in found["0"])
    assert not any(layer._forward_hooks for layer in network)


def test_a_zeroed_channel_is_zero_only_in_the_context() -> None:
    layer = nn.Conv2d(1, 3, 1)
    image = torch.ones(2, 1, 2, 2)
    before = layer(image)
    with zeroed_channel(layer, 1):
        without = layer(image)
    assert not without[:, 1].any()
    assert torch.equal(without[:, [0, 2]], before[:, [0, 2]])
    assert torch.equal(layer(image), before)


def test_the_last_convolution_of_each_stage_after_the_stem() -> None:
    assert last_convolutions(ResNet20()) == [f"layer{stage}.2.conv2" for stage in (1, 2, 3)]
    blocks = {1: 2, 2: 3, 3: 5, 4: 2}
    assert last_convolutions(ResNet50()) == [f"layer{s}.{b}.conv3" for s, b in blocks.items()]
    assert last_convolutions(Staged()) == ["layer1.0", "layer2.0"]
    assert last_convolutions(nn.Sequential(nn.Conv2d(1, 1, 1))) == ["0"]
    assert last_convolutions(nn.Linear(1, 1)) == []


def test_a_side_branch_does_not_count() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)
            self.downsample = nn.Conv2d(1, 1, 1)

    assert last_convolutions(nn.Sequential(Block())) == ["0.conv"]


def test_an_adapted_convolution_counts_with_its_adapter() -> None:
    pytest.importorskip("peft")
    network = LoraBackbone(ResNet20(), rank=2)
    found = last_convolutions(network)
    assert found == [f"backbone.layer{stage}.2.conv2" for stage in (1, 2, 3)]
    assert [channels_of(network.get_submodule(name)) for name in found] == [16, 32, 64]
