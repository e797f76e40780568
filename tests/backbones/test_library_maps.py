"""Maps of the libraries' networks: which ones, and tokens in the places of their patches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from tl.backbones.library_maps import (
    HiddenStates,
    Route,
    TimmIntermediates,
    TorchvisionTokens,
    Trunk,
    kept,
    map_to_tokens,
    tokens_to_map,
)


def sizes(*heights: int) -> list[Tensor]:
    return [torch.empty(1, 2, h, h) for h in heights]


def test_the_last_map_of_each_resolution_is_kept() -> None:
    assert kept(sizes(32, 32, 16, 16, 8)) == [1, 3, 4]
    assert kept(sizes(47, 45, 22, 20, 9)) == [1, 3, 4]  # convolutions without padding
    assert kept(sizes(4, 4)) == [0, 1]
    assert kept(sizes(*[14] * 13)) == [3, 6, 9, 12]


@pytest.mark.parametrize("loose", [0, 1, 5])
def test_tokens_and_maps_are_two_views_of_the_same(loose: int) -> None:
    tokens = torch.randn(2, loose + 6, 4)
    there = tokens_to_map(tokens, (2, 3), prefix=True)
    assert there.shape == (2, 4 * (1 + loose), 2, 3)
    assert torch.equal(there[:, :4, 1, 2], tokens[:, -1])
    assert torch.equal(map_to_tokens(there, loose), tokens)
    assert torch.equal(tokens_to_map(tokens, (2, 3), prefix=False), there[:, :4])
    with pytest.raises(ValueError, match="do not fill 4x4 places"):
        tokens_to_map(tokens, (4, 4), prefix=True)


def check(route: Route, model: Any, features: Tensor, images: Tensor) -> list[Tensor]:
    """Compare the way by maps with the network's own, and return the maps that are kept."""
    names = list(model.state_dict())
    outputs = route.outputs(model, images)
    assert torch.equal(route.pool(model, outputs[-1]), features)
    assert list(model.state_dict()) == names
    assert all(each.ndim == 4 for each in outputs)
    return [outputs[index] for index in kept(outputs)]


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", (64, 64, 128, 256, 512)),
        ("mobilenet_v3_small", (16, 16, 24, 48, 576)),
        ("efficientnet_b0", (16, 24, 40, 112, 1280)),
        ("convnext_tiny", (96, 192, 384, 768)),
        ("swin_t", (96, 192, 384, 768)),
        ("regnet_y_400mf", (32, 48, 104, 208, 440)),
        ("shufflenet_v2_x0_5", (24, 24, 48, 96, 1024)),
        ("densenet121", (64, 256, 512, 1024, 1024)),
    ],
)
def test_torchvisions_parts_run_one_after_the_other(name: str, channels: tuple[int, ...]) -> None:
    model = models.get_model(name).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps = check(Trunk(model), model, model(images), images)
    assert tuple(each.shape[1] for each in maps) == channels
    assert maps[-1].shape[2:] == (2, 2)


def test_a_vision_transformer_of_torchvision() -> None:
    model = models.VisionTransformer(32, 8, 5, 2, 16, 16, num_classes=3).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        maps = check(TorchvisionTokens(), model, model(images), images)
    assert [tuple(each.shape[1:]) for each in maps] == [*[(16, 4, 4)] * 3, (32, 4, 4)]


@pytest.mark.parametrize(
    ("name", "options", "last"),
    [
        ("resnet10t", {}, (512, 2, 2)),
        ("mobilenetv3_small_050", {}, (288, 2, 2)),
        ("convnext_atto", {}, (320, 2, 2)),
        (
            "vit_tiny_patch16_224",
            {"img_size": 64, "embed_dim": 48, "depth": 4, "reg_tokens": 2},
            (4 * 48, 4, 4),
        ),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 64, "embed_dim": 24, "depths": (1, 1, 1, 1), "window_size": 2},
            (192, 2, 2),
        ),
    ],
)
def test_timms_networks(name: str, options: dict[str, Any], last: tuple[int, ...]) -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model(name, num_classes=0, **options).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps = check(TimmIntermediates(), model, model(images), images)
    assert tuple(maps[-1].shape[1:]) == last


TOKENS = {
    "hidden_size": 16,
    "num_hidden_layers": 5,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 32,
    "patch_size": 8,
}
CONFIGS: dict[str, tuple[dict[str, Any], list[tuple[int, ...]]]] = {
    "resnet": (
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        [(8, 8, 8), (16, 4, 4)],
    ),
    "convnext": (
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
        [(8, 8, 8), (16, 4, 4), (24, 2, 2), (32, 1, 1)],
    ),
    "swin": (
        {
            "embed_dim": 12,
            "depths": [1, 1],
            "num_heads": [1, 2],
            "image_size": 32,
            "window_size": 4,
        },
        [(12, 8, 8), (24, 4, 4)],
    ),
    "vit": (TOKENS, [*[(16, 4, 4)] * 3, (32, 4, 4)]),
    "dinov2": (TOKENS, [*[(16, 4, 4)] * 3, (32, 4, 4)]),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_networks_of_transformers(kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    options, wanted = CONFIGS[kind]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **options)
    model = transformers.AutoModel.from_config(config).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        features = model(images).pooler_output.flatten(1)
        maps = check(HiddenStates(model, images, features), model, features, images)
    assert [tuple(each.shape[1:]) for each in maps] == wanted


def test_a_network_that_pools_in_its_own_way_is_refused() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model("vit", **TOKENS)
    model: nn.Module = transformers.AutoModel.from_config(config).eval()
    with torch.no_grad(), pytest.raises(ValueError, match="ViTModel pools its features in an unk"):
        HiddenStates(model, torch.randn(1, 3, 32, 32), torch.zeros(1, 16))
