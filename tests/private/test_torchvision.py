"""What torchvision does not document and decoding relies on."""

from __future__ import annotations

import io

import pytest
import torchvision.io  # noqa: F401 - registers the operators
from PIL import Image
from torchvision.models import ResNet18_Weights

from tl.private.torchvision import decode_jpeg_rgb, imagenet_accuracy


def test_the_operator_is_there() -> None:
    file = io.BytesIO()
    Image.new("L", (5, 4), 99).save(file, "JPEG")
    found = decode_jpeg_rgb(bytearray(file.getvalue()))
    if found is None:
        pytest.fail("torchvision's torch.ops.image.decode_jpeg is gone: all images go by Pillow")
    assert found.shape == (3, 4, 5)


def test_what_is_no_image_gives_nothing() -> None:
    assert decode_jpeg_rgb(bytearray(b"no image")) is None


def test_weights_know_their_accuracy() -> None:
    found = imagenet_accuracy(ResNet18_Weights.IMAGENET1K_V1)
    if found is None:
        pytest.fail("torchvision's weights.meta['_metrics'] is gone: `tl rank` shows no accuracy")
    assert found == pytest.approx(0.69758)
