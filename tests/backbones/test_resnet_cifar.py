"""ResNet-20, 32, 44 and 56 as in section 4.2 of the paper."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tl.backbones import ResNet20, ResNet32, ResNet44, ResNet56
from tl.backbones.resnet_cifar import ResNetCifar, ZeroPadShortcut


@pytest.mark.parametrize(
    ("build", "millions", "exact"),
    [
        (ResNet20, 0.27, 269_722),
        (ResNet32, 0.46, 464_154),
        (ResNet44, 0.66, 658_586),
        (ResNet56, 0.85, 853_018),
    ],
)
def test_parameters_with_a_head_for_ten_classes_are_the_papers(
    build: Callable[[], ResNetCifar], millions: float, exact: int
) -> None:
    net = nn.Sequential(build(), nn.Linear(64, 10))
    count = sum(p.numel() for p in net.parameters())
    assert count == exact
    assert round(count / 1e6, 2) == millions


@pytest.mark.parametrize("build", [ResNet20, ResNet32, ResNet44, ResNet56])
def test_depth_counts_the_convolutions_and_the_head(build: Callable[[], ResNetCifar]) -> None:
    net = build()
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) + 1 == int(type(net).__name__.removeprefix("ResNet"))


def test_names_are_torchvisions() -> None:
    names = set(ResNet20().state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight"} <= names
    assert {name.split(".")[0] for name in names} == {"conv1", "bn1", "layer1", "layer2", "layer3"}
    assert not any("downsample" in name for name in names)


def test_shortcut_takes_every_second_pixel_and_adds_zero_channels_on_both_sides() -> None:
    x = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    out = ZeroPadShortcut(2)(x)
    assert out.shape == (1, 4, 2, 2)
    assert torch.equal(out[0, 1], torch.tensor([[0.0, 2.0], [8.0, 10.0]]))
    assert out[0, 0].count_nonzero() == out[0, 3].count_nonzero() == 0


def test_convolutions_have_he_initialisation() -> None:
    torch.manual_seed(0)
    weight = ResNet20().state_dict()["layer3.2.conv2.weight"]
    assert weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("depth", [18, 2, 0, -4])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"`depth` must be 6n \+ 2 .* got {depth}"):
        ResNetCifar(depth)
