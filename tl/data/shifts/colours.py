"""Shifts of brightness and colour, pixel by pixel.

Contrast, brightness and saturation are those of CIFAR-10-C (Hendrycks & Dietterich, 2019,
arXiv:1903.12261), with the constants of the authors' script for 32x32 pixels. Grey and the colour
rotation are ours. All functions take images ``(N, H, W, 3)`` float32 from 0 to 1 and a severity
from 1 to 5; the caller clips what they return.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def contrast(images: Tensor, severity: int) -> Tensor:
    """Pull values towards each channel's mean."""
    kept = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    means = images.mean((1, 2), keepdim=True)
    return (images - means) * kept + means


def brightness(images: Tensor, severity: int) -> Tensor:
    """Raise the value of HSV; hue and saturation stay."""
    more = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    value = images.amax(-1, keepdim=True)
    brighter = (value + more).clamp(max=1)
    return torch.where(value > 0, images / value.clamp(min=1e-12) * brighter, brighter)


def saturate(images: Tensor, severity: int) -> Tensor:
    """Change the saturation of HSV: pale at severities 1 and 2, garish from 3 to 5."""
    factor, more = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))[severity - 1]
    value = images.amax(-1, keepdim=True)
    depth = torch.where(value > 0, 1 - images / value.clamp(min=1e-12), torch.zeros_like(images))
    saturation = depth.amax(-1, keepdim=True)
    # the hue of a grey pixel is 0: red, as in the script
    red = torch.tensor([0.0, 1.0, 1.0], device=images.device)
    hue = torch.where(saturation > 0, depth / saturation.clamp(min=1e-12), red)
    return value * (1 - (saturation * factor + more).clamp(0, 1) * hue)


def luma(images: Tensor) -> Tensor:
    """Return the brightness of each pixel, ``(N, H, W, 1)``."""
    weights = torch.tensor(LUMA, device=images.device)
    return (images * weights).sum(-1, keepdim=True)


def grey(images: Tensor, severity: int) -> Tensor:
    """Mix an image with its brightness; severity 5 is without any colour."""
    share = severity / 5
    return (1 - share) * images + share * luma(images).expand_as(images)


def colour_rotation(images: Tensor, severity: int) -> Tensor:
    """Rotate colours about the grey axis by 36 degrees per severity, to their opposites at 5."""
    angle = math.radians(36 * severity)
    cos, sin = math.cos(angle), math.sin(angle) / math.sqrt(3)
    across = (1 - cos) / 3  # Rodrigues' formula with the axis (1, 1, 1) / sqrt(3)
    rotation = torch.tensor(
        [
            [cos + across, across - sin, across + sin],
            [across + sin, cos + across, across - sin],
            [across - sin, across + sin, cos + across],
        ],
        device=images.device,
    )
    return images @ rotation.T
