"""Checkpoints from outside are read into our networks, or refused with a clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from tl.backbones import ResNet18, ResNet34
from tl.checkpoints.files import CheckpointError
from tl.transfer.weights import load_weights

Network = Any  # of a library without types


class Code:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 classifier as Hugging Face keeps it."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic"
    )
    net = transformers.ResNetForImageClassification(config)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) * 0.01)
    path = tmp_path_factory.mktemp("hf") / "resnet"
    net.save_pretrained(path)
    return path


def features(net: Network, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = net.eval()(images)
    return found


def test_a_hugging_face_folder_gives_the_same_features(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ours = ResNet18(stem="imagenet")
    report = load_weights(ours, folder)
    assert report.fraction == 1
    assert report.reinitialised == ()
    assert sorted(report.unused) == ["classifier.1.bias", "classifier.1.weight"]
    assert report.path.endswith("model.safetensors")
    theirs = transformers.ResNetForImageClassification.from_pretrained(folder).resnet.eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(images).pooler_output.flatten(1)
    torch.testing.assert_close(features(ours, images), expected)


def test_a_hugging_face_stem_is_named_as_re_initialised(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="with `reinit`, here conv1"):
        load_weights(ResNet18(), folder / "model.safetensors")
    report = load_weights(ResNet18(), folder, reinit=["conv1"])
    assert report.reinitialised == ("conv1.weight",)


def test_a_hugging_face_network_of_another_depth_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing: layer1\.2\.conv1\.weight"):
        load_weights(ResNet34(stem="imagenet"), folder)
    deeper = safetensors.torch.load_file(folder / "model.safetensors")
    for name, tensor in list(deeper.items()):
        if ".stages.3.layers.1." in name:
            for more in range(2, 6):
                deeper[name.replace("layers.1", f"layers.{more}")] = tensor.clone()
    safetensors.torch.save_file(deeper, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="deeper network"):
        load_weights(ResNet18(stem="imagenet"), tmp_path / "a.safetensors")


def test_a_hugging_face_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    with pytest.raises(CheckpointError, match="is a folder; name a checkpoint in it"):
        load_weights(ResNet18(), tmp_path)


def test_timms_resnet18_gives_the_same_features(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    theirs = timm.create_model("resnet18", num_classes=10)
    ours = ResNet18(stem="imagenet")
    for path in (tmp_path / "a.safetensors", tmp_path / "a.pth"):
        if path.suffix == ".pth":
            torch.save({"state_dict": theirs.state_dict(), "arch": "resnet18"}, path)
        else:
            safetensors.torch.save_file(theirs.state_dict(), path)
        report = load_weights(ours, path)
        assert sorted(report.unused) == ["fc.bias", "fc.weight"]
        assert report.reinitialised == ()
    theirs.reset_classifier(0)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(features(ours, images), features(theirs, images))
    # a stem of three convolutions, and pooling before the shortcut's convolution
    deep = timm.create_model("resnet18d")
    torch.save(deep.state_dict(), tmp_path / "d.pth")
    with pytest.raises(
        CheckpointError, match=r"has no conv1\.weight.* but, in the same parts, conv1\.0\.weight"
    ):
        load_weights(ours, tmp_path / "d.pth")


def compiled(net: nn.Module) -> nn.Module:
    found = torch.compile(net, backend="eager")
    assert isinstance(found, nn.Module)
    return found


@pytest.mark.parametrize("compiled_first", [True, False])
def test_wrapped_networks_fit_our_resnet(tmp_path: Path, compiled_first: bool) -> None:
    torch.manual_seed(0)
    net: nn.Module = torchvision.models.resnet18()
    expected = {n: t.clone() for n, t in net.state_dict().items() if not n.startswith("fc.")}
    wrapped = nn.DataParallel(compiled(net)) if compiled_first else compiled(nn.DataParallel(net))
    torch.save(wrapped.state_dict(), tmp_path / "a.pth")
    ours = ResNet18(stem="imagenet")
    report = load_weights(ours, tmp_path / "a.pth")
    assert len(report.unused) == 2
    assert all(torch.equal(t, expected[n]) for n, t in ours.state_dict().items())


def test_code_in_a_pickle_never_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    state = torchvision.models.resnet18().state_dict()
    torch.save({"state_dict": state, "extra": Code(mark)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="refused"):
        load_weights(ResNet18(), tmp_path / "a.pth")
    assert not mark.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    state = {"layer1.0.conv1.weight": torch.zeros(64, 64, 3, 3)}
    if suffix == ".pth":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="truncated"):
        load_weights(ResNet18(), path)
