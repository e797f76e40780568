"""What torchvision does not document, seen in 0.29.1; `tests/private` finds what is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


def decode_jpeg_rgb(content: bytearray) -> Tensor | None:
    """Decode a JPEG file's content to ``(3, H, W)`` uint8; ``None`` if it cannot be decoded.

    It is the operator below ``torchvision.io.decode_jpeg``, which warns at every call that later
    releases will not have it. ``None`` is also the answer where there is no such operator.
    """
    from torchvision.io import ImageReadMode  # noqa: PLC0415 - registers the operator

    try:
        found: Tensor = torch.ops.image.decode_jpeg(
            torch.frombuffer(content, dtype=torch.uint8), ImageReadMode.RGB.value, False
        )
    except (RuntimeError, AttributeError):
        return None
    return found


def imagenet_accuracy(weights: WeightsEnum) -> float | None:
    """Return the share of ImageNet's validation images that weights get right, if it is known."""
    metrics = (weights.meta.get("_metrics") or {}).get("ImageNet-1K") or {}
    accuracy = metrics.get("acc@1")
    return None if accuracy is None else float(accuracy) / 100
