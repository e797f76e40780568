from __future__ import annotations

import pytest
import torch

from tl.backbones import ResNet18, ResNet20, ResNet50, WideResNet
from tl.backbones.residual import ResidualBackbone

NETWORKS = [ResNet20(), ResNet18(), ResNet50(stem="imagenet"), WideResNet(16, 1)]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: type(n).__name__)
def test_maps_are_what_the_rows_give(network: ResidualBackbone) -> None:
    images = torch.randn(2, 3, 32, 32)
    network.eval()
    with torch.no_grad():
        maps = network.maps(images)
        x = network.stem(images)
        for row, found in zip(network.rows(), maps, strict=True):
            x = row(x)
            last = found is maps[-1]
            assert torch.equal(network.finish(x) if last else x, found)
        assert tuple(each.shape[1] for each in maps) == tuple(network.map_channels)
        torch.testing.assert_close(network(images), network.pool(maps), rtol=0, atol=0)


def test_a_wide_network_ends_with_norm_and_relu() -> None:
    network = WideResNet(16, 1).eval()
    top = torch.randn(1, 64, 2, 2)
    assert torch.equal(network.finish(top), network.bn1(top).relu())
