"""What every backbone promises."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tl.backbones import (
    Backbone,
    ResNet18,
    ResNet20,
    ResNet50,
    WideResNet,
    last_block,
    stages_of,
)

BACKBONES: dict[str, Callable[[], Backbone]] = {
    "resnet20": ResNet20,
    "resnet18": ResNet18,
    "resnet18-imagenet": lambda: ResNet18(stem="imagenet"),
    "resnet50": ResNet50,
    "wrn-10-1": lambda: WideResNet(depth=10, widen_factor=1),
}


@pytest.fixture(params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    """Build one backbone of each kind."""
    torch.manual_seed(0)
    return BACKBONES[request.param]()


def test_features_have_the_announced_length(backbone: Backbone) -> None:
    assert backbone(torch.randn(2, 3, 32, 32)).shape == (2, backbone.num_features)


@pytest.mark.parametrize("size", [(31, 45), (64, 64)])
def test_other_image_sizes_fit(backbone: Backbone, size: tuple[int, int]) -> None:
    assert backbone.eval()(torch.randn(1, 3, *size)).shape == (1, backbone.num_features)


def test_stages_hold_every_parameter_exactly_once_from_stem_to_top(backbone: Backbone) -> None:
    stages = backbone.stages()
    assert list(stages) == [n for n in ("stem", *(f"layer{i}" for i in range(1, 5))) if n in stages]
    in_stages = [p for modules in stages.values() for m in modules for p in m.parameters()]
    assert len(in_stages) == len({id(p) for p in in_stages})
    assert {id(p) for p in in_stages} == {id(p) for p in backbone.parameters()}


def test_stages_run_in_their_order(backbone: Backbone) -> None:
    order: list[str] = []
    for name, modules in backbone.stages().items():
        for module in modules:
            module.register_forward_hook(lambda *_, name=name: order.append(name))
    backbone(torch.randn(2, 3, 32, 32))
    assert order == sorted(order, key=list(backbone.stages()).index)


def test_channels_last_stays_channels_last_and_gives_the_same_features(backbone: Backbone) -> None:
    images = torch.randn(2, 3, 32, 32)
    expected = backbone.eval()(images)
    maps: list[Tensor] = []
    for modules in backbone.stages().values():
        modules[-1].register_forward_hook(lambda _m, _i, output: maps.append(output))
    backbone.to(memory_format=torch.channels_last)
    features = backbone(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
    assert all(m.is_contiguous(memory_format=torch.channels_last) for m in maps)


def test_images_are_not_written_to(backbone: Backbone) -> None:
    images = torch.randn(2, 3, 32, 32)
    before = images.clone()
    backbone(images)
    assert torch.equal(images, before)


def test_gradients_reach_every_parameter(backbone: Backbone) -> None:
    backbone(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None for p in backbone.parameters())


def test_a_module_without_stages_is_one_stage() -> None:
    net = nn.Linear(3, 2)
    assert stages_of(net) == {"backbone": [net]}


def test_a_child_called_stages_is_not_the_method() -> None:
    net = nn.Module()
    net.stages = nn.Sequential(nn.Linear(3, 2))
    assert stages_of(net) == {"backbone": [net]}


def test_stages_of_a_compiled_backbone_are_its_own() -> None:
    net = ResNet20()
    compiled = torch.compile(net, backend="eager")
    assert isinstance(compiled, nn.Module)
    assert stages_of(compiled) == net.stages()


def test_the_last_block_is_the_last_residual_block() -> None:
    net = ResNet20()
    assert {id(p) for p in last_block(net)} == {id(p) for p in net.layer3[-1].parameters()}
    lower = {id(p) for p in net.layer2.parameters()}
    wanted = {id(p) for p in net.layer2[-1].parameters()}
    assert {id(p) for p in last_block(net, lambda p: id(p) in lower)} == wanted
    net.layer3.requires_grad_(False)
    assert {id(p) for p in last_block(net)} == {id(p) for p in net.layer2[-1].parameters()}
    net.requires_grad_(False)
    assert last_block(net) == []


def test_norms_behind_the_last_block_belong_to_it() -> None:
    net = WideResNet(10, 1)
    wanted = {id(p) for m in (net.layer3[-1], net.bn1) for p in m.parameters()}
    assert {id(p) for p in last_block(net)} == wanted


def test_a_network_without_stages_has_its_last_weights() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU())
    assert {id(p) for p in last_block(net)} == {id(p) for p in net[2].parameters()}
