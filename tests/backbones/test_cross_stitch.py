from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor

from tl.backbones import CrossStitch, ResNet20, WideResNet
from tl.backbones.cross_stitch import CrossStitchUnit
from tl.backbones.residual import ResidualBackbone
from tl.backbones.resnet_cifar import ResNetCifar
from tl.optim.param_groups import named_groups


def built(network: ResidualBackbone | None = None, **given: float) -> CrossStitch:
    torch.manual_seed(0)
    backbone = CrossStitch(network or ResNetCifar(14), **given)  # type: ignore[arg-type]
    backbone.name_tasks(["a", "b"])
    return backbone


def test_a_unit_by_hand() -> None:
    unit = CrossStitchUnit(2, 3)
    assert torch.equal(unit.weight, torch.tensor([[0.9, 1 - 0.9], [1 - 0.9, 0.9]]))
    with torch.no_grad():
        unit.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    first, second = torch.full((1, 3, 1, 1), 10.0), torch.full((1, 3, 1, 1), 100.0)
    mixed = unit([first, second])
    assert torch.equal(mixed[0], torch.full((1, 3, 1, 1), 210.0))
    assert torch.equal(mixed[1], torch.full((1, 3, 1, 1), 430.0))


def test_a_unit_by_channel() -> None:
    unit = CrossStitchUnit(2, 3, per_channel=True)
    assert unit.weight.shape == (2, 2, 3)
    with torch.no_grad():
        unit.weight[0, 1] = torch.tensor([0.0, 1.0, 2.0])
    first, second = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    assert torch.equal(unit([first, second])[0][0, :, 0, 0], torch.tensor([0.0, 1.0, 2.0]))


@pytest.mark.parametrize("streams", [1, 2, 3, 5])
def test_the_weights_of_a_row_start_with_a_sum_of_one(streams: int) -> None:
    weight = CrossStitchUnit(streams, 1, same=0.7).weight
    torch.testing.assert_close(weight.sum(1), torch.ones(streams))
    wanted = torch.full((streams,), 0.7 if streams > 1 else 1.0)
    assert torch.equal(weight.diagonal(), wanted)


@pytest.mark.parametrize("network", [ResNetCifar(14), WideResNet(16, 1)])
def test_with_the_identity_the_networks_are_independent(network: ResidualBackbone) -> None:
    """Values and gradients, to the bit."""
    backbone = built(copy.deepcopy(network), same=1.0)
    with torch.no_grad():
        for parameter in backbone.network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    alone = copy.deepcopy(backbone.networks())
    images = torch.randn(4, 3, 8, 8)
    maps = backbone.streams(images, ["a", "b"])[1]
    sum(each.square().sum() for each in itertools.chain(*maps.values())).backward()  # type: ignore[union-attr]
    for one, ours, theirs in zip(maps.values(), backbone.networks(), alone, strict=True):
        found = theirs.maps(images)
        sum(each.square().sum() for each in found).backward()  # type: ignore[union-attr]
        assert all(torch.equal(a, b) for a, b in zip(one, found, strict=True))
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert p.grad is not None
            assert q.grad is not None
            assert torch.equal(p.grad, q.grad)


def test_it_starts_as_the_network_that_was_given() -> None:
    network = ResNetCifar(14).eval()
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        wanted = network.maps(images)
        backbone = built(copy.deepcopy(network)).eval()
        for maps in backbone.streams(images, ["a", "b"])[1].values():
            for found, each in zip(maps, wanted, strict=True):
                torch.testing.assert_close(found, each)


def reference(backbone: CrossStitch, images: Tensor) -> list[Tensor]:
    """Equation 1 after each stage, written out for a thin ResNet."""
    networks = [backbone.network[task] for task in ("a", "b")]
    x = [net.bn1(net.conv1(images)).relu() for net in networks]  # type: ignore[operator]
    for name, unit in zip(("layer1", "layer2", "layer3"), backbone.units, strict=True):
        x = [getattr(net, name)(each) for net, each in zip(networks, x, strict=True)]
        w: Tensor = unit.weight  # type: ignore[assignment]
        x = [w[0, 0] * x[0] + w[0, 1] * x[1], w[1, 0] * x[0] + w[1, 1] * x[1]]
    return x


def test_the_network_by_reference() -> None:
    backbone = built().eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        images = torch.randn(2, 3, 8, 8)
        maps = backbone.streams(images, ["a", "b"])[1]
        for task, wanted in zip("ab", reference(backbone, images), strict=True):
            torch.testing.assert_close(maps[task][-1], wanted)


def test_parameter_counts() -> None:
    one = sum(p.numel() for p in ResNet20().parameters())
    for per_channel, units in ((False, 3 * 9), (True, 9 * (16 + 32 + 64))):
        backbone = CrossStitch(ResNet20(), per_channel=per_channel)
        backbone.name_tasks(["a", "b", "c"])
        assert sum(p.numel() for p in backbone.parameters()) == 3 * one + units


def test_units_have_a_group_of_their_own_and_never_decay() -> None:
    backbone = built(lr_scale=100.0)
    groups = {group["name"]: group for group in named_groups(backbone, torch.nn.Linear(1, 1))}
    units = groups["stitch_no_decay"]
    assert [p.shape for p in units["params"]] == [(2, 2)] * 3
    assert units["weight_decay"] == 0
    assert "stitch" not in groups
    assert backbone.lr_scales() == {"stitch": 100.0}
    assert list(backbone.stages()) == ["stem", "layer1", "layer2", "layer3", "stitch"]


def test_what_does_not_fit_is_refused() -> None:
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match=f"`same` must be 0 to 1, got {wrong}"):
            CrossStitch(ResNet20(), same=wrong)
    with pytest.raises(ValueError, match="`lr_scale` must be above 0, got 0"):
        CrossStitch(ResNet20(), lr_scale=0.0)
