"""Weights of the libraries' networks are loaded whole, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torchvision import models

from tl.backbones import TorchvisionBackbone
from tl.transfer import CheckpointError


def test_layers_of_a_classifier_that_stay_are_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = models.mobilenet_v3_small()
    torch.save(source.state_dict(), tmp_path / "a.pth")
    torch.manual_seed(1)
    backbone = TorchvisionBackbone("mobilenet_v3_small", weights=str(tmp_path / "a.pth"))
    for name, value in backbone.model.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name
    assert backbone.provenance is not None
    assert backbone.provenance["reinitialised"] == []
    assert backbone.provenance["unused"] == ["classifier.3.weight", "classifier.3.bias"]


def test_another_networks_weights_are_refused(tmp_path: Path) -> None:
    torch.save(models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(CheckpointError, match="missing"):
        TorchvisionBackbone("resnet34", weights=str(tmp_path / "resnet18.pth"))


def test_weights_fit_images_of_other_channels(tmp_path: Path) -> None:
    """An image with equal channels gives what it gives in grey."""
    torch.manual_seed(0)
    torch.save(models.resnet18().state_dict(), tmp_path / "a.pth")
    options = {"weights": str(tmp_path / "a.pth"), "stem": "keep", "image_size": 32}
    colour = TorchvisionBackbone("resnet18", **options).eval()  # type: ignore[arg-type]
    grey = torch.randn(2, 1, 32, 32)
    expected = colour(grey.expand(-1, 3, -1, -1))
    for channels in (1, 5):
        other = TorchvisionBackbone("resnet18", **options, in_channels=channels)  # type: ignore[arg-type]
        assert other.pretrained
        found = other.eval()(grey.expand(-1, channels, -1, -1))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
