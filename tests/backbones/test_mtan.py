from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tl.backbones import MTAN, ResNet18, ResNet20, ResNet50, WideResNet
from tl.backbones.residual import ResidualBackbone
from tl.backbones.resnet_cifar import ResNetCifar


class Scale(nn.Module):
    """A block that multiplies, may take every second pixel, and may repeat its channel."""

    def __init__(self, factor: float, stride: int = 1, copies: int = 1) -> None:
        super().__init__()
        self.factor, self.stride, self.copies = factor, stride, copies

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x[:, :, :: self.stride, :: self.stride].repeat(1, self.copies, 1, 1)


class Ladder(ResidualBackbone):
    """Two stages of two blocks without weights, of one and four channels."""

    num_features = 4
    map_channels = (1, 4)

    def stem(self, images: Tensor) -> Tensor:
        return images

    def rows(self) -> list[nn.Sequential]:
        second = nn.Sequential(Scale(0.5, stride=2, copies=4), Scale(4.0))
        return [nn.Sequential(Scale(2.0), Scale(3.0)), second]

    def stages(self) -> dict[str, list[nn.Module]]:
        return {}


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def fill(layer: nn.Module, weights: Tensor, bias: float | None = None) -> None:
    assert isinstance(layer, nn.Conv2d)
    with torch.no_grad():
        layer.weight.copy_(weights.view_as(layer.weight))
        if bias is not None:
            assert layer.bias is not None
            layer.bias.fill_(bias)


def test_attention_by_hand() -> None:
    """u, p, g, h, f, pooling and their order, with hand-chosen weights."""
    backbone = MTAN(Ladder(), reduction=1)
    backbone.name_tasks(["a"])
    backbone.eval()  # fresh statistics: batch norm divides by sqrt(1 + 1e-5)
    first, second = backbone.attention["a"].children()
    one, each = torch.ones(1), torch.eye(4)
    fill(first.get_submodule("0"), one, 0.0)
    fill(first.get_submodule("3"), 0.5 * one, -1.0)
    fill(second.get_submodule("0"), torch.cat([each, -0.1 * each], 1), 1.0)
    fill(second.get_submodule("3"), each, 0.5)
    block: Any = backbone.refine[0]
    fill(block.conv3, torch.zeros(4))
    fill(block.downsample[0], torch.ones(4))
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    shared, maps = backbone.streams(image, ["a"])
    # first stage: u = 2x, p = 6x, a = sigmoid(0.5 * 2x - 1) * 6x
    low = torch.tensor([[sigmoid(x - 1) * 6 * x for x in pair] for pair in ((1, 2), (3, 4))])
    torch.testing.assert_close(maps["a"][0][0, 0], low, rtol=1e-4, atol=1e-4)
    # second stage at the pixel of x = 1: u = 3, p = 12; f keeps a, its maximum is at x = 4
    refined = sigmoid(3) * 24
    top = sigmoid(max(0.0, 3 - 0.1 * refined + 1) + 0.5) * 12
    assert maps["a"][1].flatten().tolist() == pytest.approx([top] * 4, rel=1e-4)
    assert shared.tolist() == [[12.0] * 4]
    masks = backbone.masks(image, ["a"])["a"]
    torch.testing.assert_close(masks[0] * 6 * image, maps["a"][0])


def reference_extra(channels: list[int], tasks: int) -> int:
    """Parameters beside the shared network, counted layer by layer of the authors' file."""

    def conv(inputs: int, outputs: int, kernel: int = 1, *, bias: bool = False) -> int:
        return inputs * outputs * kernel**2 + (outputs if bias else 0)

    total = 0
    for number, c in enumerate(channels):
        inputs = c if number == 0 else 2 * c
        m = c // 4
        att = conv(inputs, m, bias=True) + 2 * m + conv(m, c, bias=True) + 2 * c
        total += tasks * att
    for c, above in pairwise(channels):
        w = above // 4
        total += conv(c, w) + 2 * w + conv(w, w, 3) + 2 * w + conv(w, above) + 2 * above
        total += conv(c, above) + 2 * above
    return total


@pytest.mark.parametrize("tasks", [2, 3])
@pytest.mark.parametrize(
    ("network", "channels"),
    [
        (ResNet50, [256, 512, 1024, 2048]),
        (ResNet18, [64, 128, 256, 512]),
        (ResNet20, [16, 32, 64]),
    ],
)
def test_parameter_counts(network: type[ResidualBackbone], channels: list[int], tasks: int) -> None:
    shared = network()
    alone = sum(p.numel() for p in shared.parameters())
    backbone = MTAN(shared)
    backbone.name_tasks([str(i) for i in range(tasks)])
    extra = reference_extra(channels, tasks)
    assert sum(p.numel() for p in backbone.parameters()) == alone + extra


def test_the_authors_network_has_so_many_parameters() -> None:
    """ResNet-50 with three tasks, without classifier and decoders."""
    backbone = MTAN(ResNet50(stem="imagenet"))
    backbone.name_tasks(["segmentation", "depth", "normal"])
    assert sum(p.numel() for p in backbone.parameters()) == 43_967_232


def test_masks_weigh_the_shared_maps() -> None:
    for network in (ResNetCifar(14), WideResNet(16, 1)):
        backbone = MTAN(network)
        backbone.name_tasks(["a", "b"])
        backbone.eval()
        images = torch.randn(2, 3, 9, 9)
        with torch.no_grad():
            shared, (_, maps) = backbone.maps(images), backbone.streams(images, ["a", "b"])
            masks = backbone.masks(images, ["a", "b"])
        for task in ("a", "b"):
            for mask, whole, own in zip(masks[task], shared, maps[task], strict=True):
                assert mask.shape == whole.shape
                assert 0 < mask.min() < mask.max() < 1
                assert torch.equal(mask * whole, own)


def test_a_task_changes_nothing_of_another() -> None:
    backbone = MTAN(ResNetCifar(14))
    backbone.name_tasks(["a", "b"])
    backbone.eval()
    images = torch.randn(1, 3, 8, 8)
    before = backbone.streams(images, ["a", "b"])[1]
    with torch.no_grad():
        for parameter in backbone.attention["a"].parameters():
            parameter.normal_()
    after = backbone.streams(images, ["a", "b"])[1]
    assert torch.equal(before["b"][-1], after["b"][-1])
    assert not torch.equal(before["a"][-1], after["a"][-1])


def test_attention_and_refining_are_not_shared() -> None:
    backbone = MTAN(ResNetCifar(14))
    backbone.name_tasks(["a", "b"])
    assert backbone.shared() is backbone.networks()[0] is backbone.backbone
    assert backbone.beside_heads() == [backbone.attention, backbone.refine]
    assert backbone.beside_heads("a") == [backbone.attention["a"]]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="stage 1 of ResNetCifar has 1; take a deeper"):
        MTAN(ResNetCifar(8))
    for wrong in (0, 17):
        with pytest.raises(ValueError, match=f"`reduction` must be 1 to 16.*got {wrong}"):
            MTAN(ResNet20(), reduction=wrong)
