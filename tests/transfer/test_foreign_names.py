"""Hugging Face's names become torchvision's, all of them and one for one."""

from __future__ import annotations

import pytest
import torch
from torchvision import models

from tl.transfer.names import language_model_name, torchvision_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet.embedder.embedder.convolution.weight", "conv1.weight"),
        ("embedder.embedder.normalization.running_var", "bn1.running_var"),
        (
            "resnet.encoder.stages.1.layers.0.shortcut.convolution.weight",
            "layer2.0.downsample.0.weight",
        ),
        ("encoder.stages.0.layers.2.shortcut.normalization.bias", "layer1.2.downsample.1.bias"),
        ("encoder.stages.3.layers.1.layer.2.convolution.weight", "layer4.1.conv3.weight"),
        ("encoder.stages.3.layers.1.layer.0.normalization.weight", "layer4.1.bn1.weight"),
        ("classifier.1.weight", None),
        ("layer1.0.conv1.weight", None),
        ("encoder.stages.0.layers.0.layer.0.attention.weight", None),
    ],
)
def test_names_are_translated(name: str, expected: str | None) -> None:
    assert torchvision_name(name) == expected


def test_a_language_models_names_lose_its_family() -> None:
    own = "encoder.layer.0.output.dense.weight"
    assert language_model_name(f"bert.{own}") == own
    assert language_model_name(f"distilbert.{own}") == own
    assert language_model_name(own) is None
    assert language_model_name("bert") is None


@pytest.mark.parametrize(
    ("theirs", "kind", "depths"),
    [("resnet18", "basic", [2, 2, 2, 2]), ("resnet50", "bottleneck", [3, 4, 6, 3])],
)
def test_every_name_has_its_like(theirs: str, kind: str, depths: list[int]) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = [64, 128, 256, 512] if kind == "basic" else [256, 512, 1024, 2048]
    config = transformers.ResNetConfig(hidden_sizes=sizes, depths=depths, layer_type=kind)
    with torch.device("meta"):
        here = transformers.ResNetModel(config).state_dict()
        there = models.get_model(theirs).state_dict()
    translated = {torchvision_name(name): tensor.shape for name, tensor in here.items()}
    assert len(translated) == len(here)
    assert translated == {n: t.shape for n, t in there.items() if not n.startswith("fc.")}
