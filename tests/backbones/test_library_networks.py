"""What a library's network cannot be is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tl.backbones import HuggingFaceBackbone, TimmBackbone, TorchvisionBackbone
from tl.backbones import library_networks as networks


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(networks, "import_module", absent)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tl\[timm\]'"):
        TimmBackbone()
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tl\[huggingface\]'"):
        HuggingFaceBackbone()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"output_stride": 12}, "`output_stride` must be 8, 16, 32 or null, got 12"),
        ({"output_stride": 8, "stem": "32x32"}, "`output_stride=8` needs `stem: keep`"),
        ({"output_stride": 8}, "torchvision does not build resnet18 with `output_stride=8`"),
        ({"name": "mobilenet_v3_small", "output_stride": 8}, "MobileNetV3 has a stride of 16"),
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


def test_weights_of_other_channels_are_one_line(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        num_channels=5, embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic"
    )
    transformers.ResNetModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"read 5 channels, and `in_channels` is 3; set in_ch"):
        HuggingFaceBackbone(str(tmp_path))
    assert HuggingFaceBackbone(str(tmp_path), in_channels=5).in_channels == 5
    assert HuggingFaceBackbone(str(tmp_path), None).in_channels == 3
