"""ResNet-18, 34 and 50 against torchvision's."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

from tl.backbones import ResNet18, ResNet34, ResNet50


@pytest.mark.parametrize(
    ("build", "reference"),
    [
        (ResNet18, torchvision.models.resnet18),
        (ResNet34, torchvision.models.resnet34),
        (ResNet50, torchvision.models.resnet50),
    ],
)
def test_imagenet_stem_gives_torchvisions_features_bit_for_bit(
    build: type[ResNet18], reference: Callable[[], nn.Module]
) -> None:
    torch.manual_seed(0)
    theirs = reference()
    state = {k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")}
    theirs.fc = nn.Identity()
    ours = build(stem="imagenet")
    ours.load_state_dict(state)
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours.eval()(images), theirs.eval()(images))


def test_cifar_stem_differs_from_torchvision_in_one_shape_only() -> None:
    theirs = torchvision.models.resnet18().state_dict()
    ours = ResNet18().state_dict()
    assert set(theirs) - set(ours) == {"fc.weight", "fc.bias"}
    assert set(ours) <= set(theirs)
    assert [k for k in ours if ours[k].shape != theirs[k].shape] == ["conv1.weight"]


def test_cifar_stem_keeps_the_resolution() -> None:
    shapes: list[torch.Size] = []
    net = ResNet18()
    net.layer1.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))
    net(torch.randn(2, 3, 32, 32))
    assert shapes == [(2, 64, 32, 32)]


def test_parameters_with_a_head_for_ten_classes() -> None:
    net = nn.Sequential(ResNet18(), nn.Linear(512, 10))
    assert sum(p.numel() for p in net.parameters()) == 11_173_962


def test_unknown_stem_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="one of cifar, imagenet, got 'mnist'"):
        ResNet18(stem="mnist")  # type: ignore[arg-type]  # that is the point
