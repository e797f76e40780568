from __future__ import annotations

import pytest
import torch
from torch import nn

from tl.backbones import MTAN, CrossStitch, LoraBackbone, ResNet20, last_block
from tl.backbones.resnet_cifar import ResNetCifar
from tl.backbones.streams import StreamsBackbone, beside_heads, mixing_parts, shared_part

KINDS: list[type[StreamsBackbone]] = [MTAN, CrossStitch]


def built(kind: type[StreamsBackbone], tasks: tuple[str, ...] = ("a", "b")) -> StreamsBackbone:
    torch.manual_seed(0)
    found = kind(ResNetCifar(14))
    found.name_tasks(tasks)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_each_task_has_maps_of_its_own(kind: type[StreamsBackbone]) -> None:
    backbone = built(kind)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    images = torch.randn(2, 3, 16, 17)
    vector, maps = backbone.eval().streams(images, ["a", "b"])
    assert vector.shape == (2, 64)
    assert [m.shape for m in maps["a"]] == [(2, 16, 16, 17), (2, 32, 8, 9), (2, 64, 4, 5)]
    assert all(not torch.equal(a, b) for a, b in zip(maps["a"], maps["b"], strict=True))
    torch.testing.assert_close(backbone(images), vector)
    torch.testing.assert_close(backbone.pool(backbone.maps(images)), vector)
    alone = backbone.streams(images, ["b"])[1]
    assert list(alone) == ["b"]
    assert torch.equal(alone["b"][-1], maps["b"][-1])


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_in_one_stage_or_with_the_heads(kind: type[StreamsBackbone]) -> None:
    backbone = built(kind)
    stages = [part for parts in backbone.stages().values() for part in parts]
    found = [id(p) for part in (*stages, *beside_heads(backbone)) for p in part.parameters()]
    assert sorted(found) == sorted(id(p) for p in backbone.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_shared_block_is_that_of_each_network(kind: type[StreamsBackbone]) -> None:
    backbone = built(kind)
    blocks = [network.rows()[-1][-1] for network in backbone.networks()]
    wanted = [id(p) for block in blocks for p in block.parameters()]
    assert [id(p) for p in last_block(backbone)] == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_streams_are_made_once(kind: type[StreamsBackbone]) -> None:
    backbone = built(kind)
    before = [id(p) for p in backbone.parameters()]
    backbone.name_tasks(["a", "b"])
    assert [id(p) for p in backbone.parameters()] == before
    with pytest.raises(ValueError, match="streams for a, b, and the tasks are b, c"):
        backbone.name_tasks(["b", "c"])


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_is_refused(kind: type[StreamsBackbone]) -> None:
    with pytest.raises(ValueError, match=r"one of our residual networks.*got Linear"):
        kind(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="at least one task"):
        kind(ResNet20()).name_tasks([])
    with pytest.raises(ValueError, match="no streams yet"):
        kind(ResNet20()).streams(torch.zeros(1, 3, 8, 8), ["a"])
    with pytest.raises(ValueError, match="LoRA does not adapt"):
        LoraBackbone(kind(ResNet20()))


def test_any_other_network_is_shared_whole() -> None:
    network = ResNet20()
    assert shared_part(network) is network
    assert beside_heads(network) == mixing_parts(network) == []


def test_one_task_is_enough() -> None:
    for kind in KINDS:
        backbone = built(kind, ("a",)).eval()
        images = torch.randn(1, 3, 8, 8)
        assert backbone.streams(images, ["a"])[1]["a"][-1].shape == (1, 64, 2, 2)
