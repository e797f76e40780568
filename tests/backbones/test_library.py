"""Networks of libraries as backbones: maps, channels and strides that fit, or one line."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tl.backbones import HuggingFaceBackbone, LoraBackbone, TimmBackbone, TorchvisionBackbone
from tl.backbones.base import offered
from tl.backbones.library import PretrainedBackbone, parameters_behind
from tl.backbones.library_maps import Route


@cache
def mobile() -> PretrainedBackbone:
    """A network whose features take a layer more than its maps."""
    return TorchvisionBackbone("mobilenet_v3_small", None, "keep", 64).eval()


def test_one_computation_gives_maps_and_features() -> None:
    net = mobile()
    images = torch.randn(2, 3, 40, 48)  # resized to 64x64
    maps = net.maps(images)
    assert net.map_channels == tuple(each.shape[1] for each in maps) == (16, 16, 24, 48, 576)
    assert [each.shape[2] for each in maps] == [32, 16, 8, 4, 2]
    assert torch.equal(net.pool(maps), net(images))
    assert offered(net) == "maps"
    again = copy.deepcopy(net)
    assert torch.equal(again.pool(again.maps(images)), net(images))


def test_a_stem_for_small_images_gives_maps_as_our_own_resnet_does() -> None:
    net = TorchvisionBackbone("resnet18", None).eval()
    assert net.map_channels == (64, 128, 256, 512)
    images = torch.randn(1, 3, 32, 32)
    assert [each.shape[2] for each in net.maps(images)] == [32, 16, 8, 4]
    assert net.pool_parameters() == net.unread_parameters() == []


def test_parameters_that_no_map_depends_on_are_named() -> None:
    net = mobile()
    wanted = {name for name, _ in net.named_parameters() if "classifier" in name}
    names = {id(p): name for name, p in net.named_parameters()}
    assert {names[id(p)] for p in net.pool_parameters()} == wanted
    sum(each.sum() for each in net.train().maps(torch.randn(2, 3, 64, 64))).backward()  # type: ignore[union-attr]
    assert {name for name, p in net.named_parameters() if p.grad is None} == wanted
    net.zero_grad()
    net.eval()


def test_adapters_hand_on_maps_and_what_they_add_behind_them() -> None:
    pytest.importorskip("peft")
    net = LoraBackbone(TorchvisionBackbone("mobilenet_v3_small", None, "keep", 64)).eval()
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(net.pool(net.maps(images)), net(images))
    names = {id(p): name for name, p in net.named_parameters()}
    behind = {names[id(p)] for p in net.pool_parameters()}
    assert {"lora_A" in name for name in behind} == {True, False}
    assert all("classifier" in name for name in behind)
    assert net.in_channels == 3


class Apart(PretrainedBackbone):
    """Says of its maps what does not hold."""

    def route(self, images: Tensor, features: Tensor) -> Route:
        return Wrong()


class Wrong:
    """Pools to something else than the network does."""

    def outputs(self, model: Any, images: Tensor) -> list[Tensor]:
        return [model[0](images)]

    def pool(self, model: Any, last: Tensor) -> Tensor:
        return last.mean((2, 3)) + 1


def test_a_network_whose_maps_do_not_give_its_features_gives_vectors_only() -> None:
    pool = nn.AdaptiveAvgPool2d(1)
    net = Apart(nn.Sequential(nn.Conv2d(3, 4, 3), pool, nn.Flatten()), "keep", 8)
    assert net.num_features == 4
    assert net.map_channels == ()
    assert offered(net) is None
    with pytest.raises(ValueError, match="Sequential gives no maps, only vectors"):
        net.maps(torch.zeros(1, 3, 8, 8))


def test_parameters_behind_a_result() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    found = parameters_behind([first(torch.ones(1, 2)).relu() * 2])
    assert found == {id(p) for p in first.parameters()}
    assert parameters_behind([second(torch.ones(1, 2)).detach()]) == set()


# Channels


def test_every_library_takes_other_channels(tmp_path: Path) -> None:
    transformers, _ = pytest.importorskip("transformers"), pytest.importorskip("timm")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    transformers.ResNetModel(config).save_pretrained(tmp_path)
    images = torch.randn(2, 13, 32, 32)
    for net in (
        TorchvisionBackbone("resnet18", None, in_channels=13),
        TimmBackbone("resnet10t", None, in_channels=13),
        HuggingFaceBackbone(str(tmp_path), None, in_channels=13),
        HuggingFaceBackbone(str(tmp_path), in_channels=13),
    ):
        assert net.in_channels == 13
        assert net(images).shape == (2, net.num_features)
        assert net.maps(images)[-1].shape[1] == net.map_channels[-1]


# Strides


def test_a_dilated_network_keeps_its_last_maps_large() -> None:
    net = TorchvisionBackbone("resnet50", None, "keep", 64, output_stride=8).eval()
    assert net.map_channels == (64, 256, 2048)
    assert net.maps(torch.randn(1, 3, 64, 64))[-1].shape == (1, 2048, 8, 8)
    plain = TorchvisionBackbone("resnet50", None, "keep", 64).state_dict()
    assert {k: v.shape for k, v in net.state_dict().items()} == {
        k: v.shape for k, v in plain.items()
    }


def test_timm_dilates_too() -> None:
    pytest.importorskip("timm")
    net = TimmBackbone("resnet10t", None, "keep", 64, output_stride=16)
    assert net.eval().maps(torch.randn(1, 3, 64, 64))[-1].shape == (1, 512, 4, 4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"output_stride": 12}, "`output_stride` must be 8, 16, 32 or null, got 12"),
        ({"output_stride": 8, "stem": "32x32"}, "`output_stride=8` needs `stem: keep`"),
        ({"output_stride": 8}, "torchvision does not build resnet18 with `output_stride=8`"),
        ({"name": "mobilenet_v3_small", "output_stride": 8}, "MobileNetV3 gives a stride of 16"),
        ({"name": "densenet121", "output_stride": 16}, "does not build densenet121"),
        ({"in_channels": 0}, "`in_channels` must be 1 or more, got 0"),
    ],
)
def test_what_a_network_cannot_be_is_one_line(options: dict[str, Any], said: str) -> None:
    given = {"name": "resnet18", "weights": None, "stem": "keep", "image_size": 64, **options}
    with pytest.raises(ValueError, match="^[^\n]*" + said):
        TorchvisionBackbone(**given)


def test_a_configuration_without_strides_is_one_line(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.ResNetConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"`output_stride` of 8 is not possible.*\(resnet\)"):
        HuggingFaceBackbone(str(tmp_path), None, "keep", output_stride=8)
