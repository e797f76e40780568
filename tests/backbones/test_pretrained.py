"""A library's weights arrive whole, in a network that takes small images."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn
from torchvision import models

from tests.small import tiny_data, trainer
from tl import TransferModule
from tl.backbones import HuggingFaceBackbone, ResNet18, TimmBackbone, TorchvisionBackbone, library
from tl.optim.param_groups import named_groups
from tl.transfer import load_weights
from tl.transfer.lineage import lineage


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(library, "rank_zero_info", lines.append)
    return lines


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18-f37072fd.pth"
    torch.save(models.resnet18().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little ResNet as Hugging Face keeps a classifier."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    )
    path = tmp_path_factory.mktemp("hf") / "resnet"
    transformers.ResNetForImageClassification(config).save_pretrained(path)
    return path


def test_torchvisions_weights_arrive(resnet: Path, said: list[str]) -> None:
    backbone = TorchvisionBackbone("resnet18", weights=str(resnet))
    source = torch.load(resnet, weights_only=True)
    found = backbone.model.state_dict()
    assert set(source) - set(found) == {"fc.weight", "fc.bias"}
    for name, value in found.items():
        expected = source[name][:, :, 2:5, 2:5] if name == "conv1.weight" else source[name]
        assert torch.equal(value, expected), name
    assert backbone.pretrained is True
    assert backbone.num_features == 512
    assert list(backbone.stages()) == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert backbone(torch.randn(2, 3, 32, 32)).shape == (2, 512)
    [line] = said
    assert "weights resnet18-f37072fd.pth" in line
    assert "the kernel's middle 3x3" in line
    assert "original image size" in line


def test_the_adapted_network_is_our_own(resnet: Path) -> None:
    """The same blocks behind the same stem, given the same weights."""
    backbone = TorchvisionBackbone("resnet18", weights=str(resnet)).eval()
    ours = ResNet18().eval()
    ours.load_state_dict(backbone.model.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(backbone(images), ours(images))


def test_images_are_resized_to_the_library_s_size(resnet: Path, said: list[str]) -> None:
    backbone = TorchvisionBackbone(
        "resnet18", weights=str(resnet), stem="keep", image_size=64
    ).eval()
    assert "original stem, images resized to 64x64" in said[0]
    large = torch.randn(2, 3, 64, 64)
    small = nn.functional.avg_pool2d(large, 2)
    whole = models.resnet18()
    whole.load_state_dict(torch.load(resnet, weights_only=True))
    whole.fc = nn.Identity()
    torch.testing.assert_close(backbone(large), whole.eval()(large))
    resized = nn.functional.interpolate(small, (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(backbone(small), whole(resized))


def test_weights_by_name_come_from_the_cache(
    resnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / resnet.name).symlink_to(resnet)
    backbone = TorchvisionBackbone("resnet18")
    assert backbone.pretrained
    assert backbone.provenance is not None
    assert backbone.provenance["note"] == "torchvision's resnet18, weights IMAGENET1K_V1"


def test_random_weights_are_not_pretrained(said: list[str]) -> None:
    backbone = TorchvisionBackbone("resnet18", weights=None)
    assert backbone.pretrained is False
    assert backbone.provenance is None
    assert "random weights" in said[0]


class Around:
    """What holds a backbone."""

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = backbone


def test_null_on_the_command_line_means_random_weights() -> None:
    """Two classes deep, the parser makes it the word None."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Around, "model")
    model = parser.instantiate_classes(
        parser.parse_args(
            [
                f"--model={Around.__module__}.Around",
                "--model.init_args.backbone=tl.backbones.TorchvisionBackbone",
                "--model.init_args.backbone.init_args.weights=null",
                "--model.init_args.backbone.init_args.name=resnet18",
            ]
        )
    ).model
    assert not model.backbone.pretrained


def test_groups_hold_every_parameter() -> None:
    backbone = TorchvisionBackbone("mobilenet_v3_small", weights=None)
    groups = named_groups(backbone, nn.Linear(2, 2))
    count = sum(p.numel() for group in groups for p in group["params"])
    assert count == sum(p.numel() for p in backbone.parameters()) + 6


def test_a_run_and_its_lineage_tell_the_library(resnet: Path, tmp_path: Path) -> None:
    data = tiny_data(batch_size=4)
    module = TransferModule(TorchvisionBackbone("resnet18", str(resnet)), data.tasks[0])
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=1, limit_val_batches=1)
    run.fit(module, data)
    run.save_checkpoint(tmp_path / "a.ckpt")
    [source] = lineage(tmp_path / "a.ckpt").sources
    assert source.path == resnet.name
    assert source.note == "torchvision's resnet18, weights resnet18-f37072fd.pth"
    # what was trained there starts a network of our own
    assert load_weights(ResNet18(), tmp_path / "a.ckpt").fraction == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "resnet19"}, "has no network 'resnet19'. Did you mean resnet18"),
        ({"weights": "IMAGENET1K_V7"}, "has no weights 'IMAGENET1K_V7' for resnet18, only IMAGENE"),
        ({"weights": "no.pth"}, "no.pth: no such file"),
        ({"stem": "small", "weights": None}, "`stem` must be one of 32x32, keep, got 'small'"),
        ({"image_size": 0, "weights": None}, "`image_size` must be 1 or more, got 0"),
        ({"name": "squeezenet1_0", "weights": None}, "no final linear layer"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        TorchvisionBackbone(**{"name": "resnet18", **options})
    assert said in str(caught.value)


# timm


def test_timms_weights_arrive_from_file_and_folder(tmp_path: Path, said: list[str]) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    source = timm.create_model("resnet10t", num_classes=7)
    safetensors.torch.save_file(source.state_dict(), tmp_path / "model.safetensors")
    for path in (tmp_path, tmp_path / "model.safetensors"):
        backbone = TimmBackbone("resnet10t", weights=str(path), stem="keep").eval()
        assert backbone.pretrained
        images = torch.randn(2, 3, 32, 32)
        source.reset_classifier(0)
        torch.testing.assert_close(backbone(images), source.eval()(images))
    small = TimmBackbone("resnet10t", weights=None)
    assert small(images).shape == (2, small.num_features)
    assert "conv1.0 3x3, stride 2 -> stride 1, no max-pooling" in said[-1]
    with pytest.raises(ValueError, match="timm has no network 'resnet10x'"):
        TimmBackbone("resnet10x")


def test_timms_features_are_counted() -> None:
    pytest.importorskip("timm")
    backbone = TimmBackbone("mobilenetv3_small_050", weights=None)
    assert backbone.num_features == 1024  # timm's own attribute says 288, before a last layer
    assert named_groups(backbone, nn.Linear(2, 2))


# Hugging Face


def features_of(folder: Path, images: Tensor) -> Tensor:
    transformers = pytest.importorskip("transformers")
    whole = transformers.ResNetForImageClassification.from_pretrained(folder).eval()
    found: Tensor = whole.resnet(images).pooler_output.flatten(1)
    return found


def test_hugging_faces_weights_arrive(folder: Path, said: list[str]) -> None:
    backbone = HuggingFaceBackbone(str(folder), stem="keep", image_size=64).eval()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(backbone(images), features_of(folder, images))
    assert backbone.num_features == 16
    assert list(backbone.stages()) == ["stem", "stage0", "stage1"]
    assert backbone.provenance is not None
    assert backbone.provenance["path"] == "model.safetensors"
    assert backbone.provenance["unused"] == ["classifier.1.bias", "classifier.1.weight"]
    assert "(ResNetModel), weights model.safetensors" in said[0]
    small = HuggingFaceBackbone(str(folder))
    assert small.model.embedder.embedder.convolution.kernel_size == (3, 3)  # type: ignore[union-attr]
    assert small(images).shape == (2, 16)
    assert named_groups(small, nn.Linear(2, 2))


def test_hugging_faces_weights_are_whole_or_refused(folder: Path, tmp_path: Path) -> None:
    state = safetensors.torch.load_file(folder / "model.safetensors")
    del state["resnet.encoder.stages.1.layers.0.layer.0.convolution.weight"]
    safetensors.torch.save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(ValueError, match="the weights lack encoder"):
        HuggingFaceBackbone(str(tmp_path))
    with pytest.raises(ValueError, match="set `name` to a folder with weights"):
        HuggingFaceBackbone(str(folder), weights=str(tmp_path))
    random = HuggingFaceBackbone(str(tmp_path), weights=None)
    assert not random.pretrained


def test_other_files_in_the_folder_are_not_recorded_as_the_weights(
    folder: Path, tmp_path: Path
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    for name in ("adapter_model.safetensors", "all_states.bin"):
        (tmp_path / name).write_bytes(b"another file")
    backbone = HuggingFaceBackbone(str(tmp_path))
    assert backbone.provenance is not None
    assert backbone.provenance["path"] == "model.safetensors"
    content = (folder / "model.safetensors").read_bytes()
    assert backbone.provenance["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_repositorys_code_never_runs(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "x.C", "AutoModel": "x.M"}, "model_type": "own"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (tmp_path / "x.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ValueError, match=r"."):
        HuggingFaceBackbone(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_transformer_without_pooler_gives_its_class_token(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=16,
        patch_size=8,
    )
    whole = transformers.ViTForImageClassification(config).eval()
    whole.save_pretrained(tmp_path)
    backbone = HuggingFaceBackbone(str(tmp_path), stem="keep", image_size=16).eval()
    images = torch.randn(2, 3, 16, 16)
    expected = whole.vit(images).last_hidden_state[:, 0]
    torch.testing.assert_close(backbone(images), expected)
    assert named_groups(backbone, nn.Linear(2, 2))
    assert list(backbone.stages()) == ["stem", "stage0", "stage1"]
