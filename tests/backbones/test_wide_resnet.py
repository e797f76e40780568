"""Wide ResNets as in the paper."""

import pytest
import torch
from torch import nn

from tl.backbones import WideResNet
from tl.backbones.wide_resnet import WideBlock


@pytest.mark.parametrize(
    ("depth", "widen_factor", "millions", "exact"),
    [(28, 10, 36.5, 36_479_194), (16, 4, 2.7, 2_748_890), (40, 4, 8.9, 8_949_210)],
)
def test_parameters_with_a_head_for_ten_classes_are_the_papers(
    depth: int, widen_factor: int, millions: float, exact: int
) -> None:
    with torch.device("meta"):
        net = WideResNet(depth, widen_factor)
        count = sum(
            p.numel() for p in nn.Sequential(net, nn.Linear(net.num_features, 10)).parameters()
        )
    assert count == exact
    assert round(count / 1e6, 1) == millions


def test_defaults_are_wrn_28_10() -> None:
    with torch.device("meta"):
        assert WideResNet().num_features == 640
        assert len(WideResNet().layer1) == 4


def test_identity_shortcut_carries_the_raw_input() -> None:
    block = WideBlock(4, 4, stride=1, dropout=0.0)
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(block(x), x)


def test_convolved_shortcut_starts_from_the_activated_input() -> None:
    block = WideBlock(4, 8, stride=2, dropout=0.0).eval()
    nn.init.zeros_(block.conv2.weight)
    assert block.shortcut is not None
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(block(x), block.shortcut(block.bn1(x).relu()))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    net = WideResNet(depth=10, widen_factor=1, dropout=0.5)
    images = torch.randn(2, 3, 16, 16)
    assert not torch.equal(net(images), net(images))
    net.eval()
    assert torch.equal(net(images), net(images))


@pytest.mark.parametrize("depth", [18, 27, 4, 0])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"`depth` must be 6n \+ 4 .* got {depth}"):
        WideResNet(depth=depth)


def test_bad_width_and_dropout_are_refused() -> None:
    with pytest.raises(ValueError, match="`widen_factor` must be at least 1, got 0"):
        WideResNet(widen_factor=0)
    with pytest.raises(ValueError, match="`dropout` must be at least 0 and below 1, got 1"):
        WideResNet(dropout=1.0)
