"""Stages that hold every parameter once, and stems that keep small images as they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

from tl.backbones.structure import adapt_stem, stages_by_structure


class Tokens(nn.Module):
    """A little transformer: loose parameters, a row of blocks, a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.patch_embed = nn.Conv2d(3, 4, 4, stride=4)
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.GELU()) for _ in range(2)))
        self.norm = nn.LayerNorm(4)


def without_values(name: str) -> nn.Module:
    # regnet reckons with tensors while it is built
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        model: nn.Module = models.get_model(name)
    last = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    model.set_submodule(last, nn.Identity())
    return model


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet18", ["stem", "layer1", "layer2", "layer3", "layer4"]),
        ("vgg11_bn", ["stem", "stage4", "stage8", "stage15", "stage22"]),
        ("convnext_tiny", ["stem", *(f"stage{i}" for i in range(1, 8))]),
        ("regnet_y_400mf", ["stem", "block1", "block2", "block3", "block4"]),
        ("vit_b_16", ["stem", *(f"encoder_layer_{i}" for i in range(12))]),
        (
            "densenet121",
            [
                *("stem", "denseblock1", "transition1", "denseblock2", "transition2"),
                *("denseblock3", "transition3", "denseblock4"),
            ],
        ),
    ],
)
def test_stages_of_torchvisions_networks(name: str, stages: list[str]) -> None:
    model = without_values(name)
    found = stages_by_structure(model)
    assert list(found) == stages
    placed = [id(p) for modules in found.values() for m in modules for p in m.parameters()]
    assert sorted(placed) == sorted(id(p) for p in model.parameters())


def test_loose_parameters_belong_to_the_stem_and_norms_to_the_top() -> None:
    net = Tokens()
    found = stages_by_structure(net)
    assert list(found) == ["stem", "stage0", "stage1"]
    parameters = [p for m in found["stem"] for p in m.parameters()]
    assert parameters[0] is net.cls_token
    assert parameters[1] is net.patch_embed.weight
    assert found["stage1"][-1] is net.norm


def test_a_resnets_stem_keeps_the_middle_of_its_kernel() -> None:
    torch.manual_seed(0)
    net = models.resnet18()
    before = net.conv1.weight.detach().clone()
    said = adapt_stem(net)
    assert torch.equal(net.conv1.weight, before[:, :, 2:5, 2:5])
    assert said == "conv1 7x7, stride 2 -> the kernel's middle 3x3, stride 1, no max-pooling"
    images = torch.randn(2, 3, 32, 32)
    assert net.maxpool(net.conv1(images)).shape == (2, 64, 32, 32)
    expected = nn.functional.conv2d(images, before[:, :, 2:5, 2:5], padding=1)
    torch.testing.assert_close(net.conv1(images), expected)


def test_a_small_kernel_stays_and_only_the_stride_changes() -> None:
    net = models.mobilenet_v3_small()
    first = net.features[0][0]
    before = first.weight
    assert adapt_stem(net) == "features.0.0 3x3, stride 2 -> stride 1"
    assert first.weight is before
    assert first(torch.zeros(1, 3, 32, 32)).shape[2:] == (32, 32)


def test_a_stem_for_small_images_stays_with_its_pooling() -> None:
    net = without_values("vgg11_bn")
    assert "unchanged" in adapt_stem(net)
    assert isinstance(net.get_submodule("features.3"), nn.MaxPool2d)


def test_other_beginnings_are_refused() -> None:
    for net in (without_values("convnext_tiny"), Tokens()):
        with pytest.raises(ValueError, match=r"begins with Conv2d\(3.*Set `stem: keep` and an"):
            adapt_stem(net)
    with pytest.raises(ValueError, match="Linear has no convolution"):
        adapt_stem(nn.Linear(2, 2))
