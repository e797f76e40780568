"""What torchvision does not document, seen in 0.29.1; `tests/private` finds what is gone."""

from __future__ import annotations

import torch
from torch import Tensor


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
