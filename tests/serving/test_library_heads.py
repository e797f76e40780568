"""The classifier that a library's weights come with gives the logits of the whole network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import models

from tl.backbones import HuggingFaceBackbone, TimmBackbone, TorchvisionBackbone
from tl.serving.library_heads import library_head


def shifted(network: Any) -> Any:
    """A network whose every weight matters."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return network.eval()


TORCHVISION = ("resnet18", "mobilenet_v3_small", "vit_b_16")
TIMM = ("resnet18", "vit_tiny_patch16_224", "mobilenetv3_small_050")


@pytest.mark.parametrize(
    ("package", "name"),
    [*(("torchvision", name) for name in TORCHVISION), *(("timm", name) for name in TIMM)],
)
def test_it_gives_the_logits_of_the_whole_network(package: str, name: str, tmp_path: Path) -> None:
    build: Any
    kind: Any
    if package == "timm":
        build, kind = pytest.importorskip("timm").create_model, TimmBackbone
    else:
        build, kind = models.get_model, TorchvisionBackbone
    whole, weights = shifted(build(name)), str(tmp_path / "net.pth")
    torch.save(whole.state_dict(), weights)
    backbone = kind(name, weights, "keep").eval()
    images = torch.randn(2, 3, 224, 224)
    head = library_head(package, name, weights, backbone)
    assert head is not None
    torch.testing.assert_close(head(backbone(images)), whole(images), rtol=1e-4, atol=1e-4)
    assert library_head(package, name, None, backbone) is None


def test_weights_of_other_classes_bring_their_own(tmp_path: Path) -> None:
    whole = shifted(models.resnet18(num_classes=7))
    weights = str(tmp_path / "net.pth")
    torch.save({f"module.{name}": value for name, value in whole.state_dict().items()}, weights)
    backbone = TorchvisionBackbone("resnet18", weights, "keep").eval()
    head = library_head("torchvision", "resnet18", weights, backbone)
    assert head is not None
    assert head(torch.zeros(1, 512)).shape == (1, 7)


def test_weights_without_a_classifier_have_none(tmp_path: Path) -> None:
    state = models.resnet18().state_dict()
    weights = str(tmp_path / "net.pth")
    torch.save({k: v for k, v in state.items() if not k.startswith("fc.")}, weights)
    backbone = TorchvisionBackbone("resnet18", weights, "keep")
    assert library_head("torchvision", "resnet18", weights, backbone) is None


def _resnet(transformers: Any) -> Any:
    return transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5
    )


def _vit(transformers: Any) -> Any:
    return transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        num_labels=5,
    )


@pytest.mark.parametrize("config", [_resnet, _vit])
def test_of_hugging_face(config: Any, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    kind = transformers.AutoModelForImageClassification
    whole: Any = shifted(kind.from_config(config(transformers)))
    whole.save_pretrained(tmp_path)
    backbone = HuggingFaceBackbone(str(tmp_path), "DEFAULT", "keep", 32)
    head = library_head("huggingface", str(tmp_path), "DEFAULT", backbone)
    assert head is not None
    assert backbone.training
    images = torch.randn(2, 3, 32, 32)
    wanted = whole(images).logits
    torch.testing.assert_close(head(backbone.eval()(images)), wanted, rtol=1e-4, atol=1e-4)


def test_a_classifier_that_reads_something_else_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """I-JEPA's reads the mean of all positions, DINOv2's the class token beside it."""
    timm, transformers = map(pytest.importorskip, ("timm", "transformers"))
    normalised = shifted(timm.create_model("efficientvit_m0"))  # a batch norm before the layer
    torch.save(normalised.state_dict(), tmp_path / "net.pth")
    weights = str(tmp_path / "net.pth")
    small = TimmBackbone("efficientvit_m0", weights, "keep")
    assert library_head("timm", "efficientvit_m0", weights, small) is None
    assert "The classifier of efficientvit_m0 is left out: it reads something" in caplog.text
    for name in ("IJepa", "Dinov2"):
        given = {**_vit(transformers).to_dict(), "patch_size": 16, "num_labels": 5}
        del given["model_type"]
        config = getattr(transformers, f"{name}Config").from_dict(given)
        whole: Any = getattr(transformers, f"{name}ForImageClassification")(config)
        shifted(whole).save_pretrained(tmp_path / name)
        backbone = HuggingFaceBackbone(str(tmp_path / name), "DEFAULT", "keep", 32)
        assert library_head("huggingface", str(tmp_path / name), "DEFAULT", backbone) is None
    transformers.ResNetModel(_resnet(transformers)).save_pretrained(tmp_path / "plain")
    backbone = HuggingFaceBackbone(str(tmp_path / "plain"), "DEFAULT", "keep")
    assert library_head("huggingface", str(tmp_path / "plain"), "DEFAULT", backbone) is None
