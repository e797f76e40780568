"""Fog of CIFAR-10-C (Hendrycks & Dietterich, 2019, arXiv:1903.12261)."""

from __future__ import annotations

import torch
from torch import Tensor

from tl.data.shifts.draws import ImageDraws


def plasma(noise: Tensor, decay: float) -> Tensor:
    """Return height maps by the diamond-square algorithm, from 0 to 1.

    Args:
        noise: A random number from -1 to 1 for each point, ``(N, M, M)``; `M` is a power of two.
        decay: Factor by which the roughness shrinks as distances are halved.

    Returns:
        ``(N, M, M)``, which continue beyond their borders.
    """
    size = noise.shape[-1]
    heights = torch.zeros_like(noise)
    step, rough = size, 100.0
    while step > 1:
        half = step // 2
        corners = heights[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        centre = (pairs + pairs.roll(-1, 2)) / 4
        heights[:, half::step, half::step] = centre + rough**2 * noise[:, half::step, half::step]
        centres = heights[:, half::step, half::step]
        beside = corners + corners.roll(-1, 2) + centres + centres.roll(1, 1)
        below = corners + corners.roll(-1, 1) + centres + centres.roll(1, 2)
        heights[:, ::step, half::step] = beside / 4 + rough**2 * noise[:, ::step, half::step]
        heights[:, half::step, ::step] = below / 4 + rough**2 * noise[:, half::step, ::step]
        step, rough = half, rough / decay
    heights = heights - heights.amin((1, 2), keepdim=True)
    return heights / heights.amax((1, 2), keepdim=True).clamp(min=1e-12)


def fog(images: Tensor, severity: int, draws: ImageDraws) -> Tensor:
    """Add a height map as fog, and scale the sum to the image's own brightest value.

    Args:
        images: ``(N, H, W, 3)`` float32 from 0 to 1.
        severity: From 1 to 5; the constants are those of the authors' script for 32x32 pixels.
        draws: Random numbers of these images.
    """
    thick, decay = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))[severity - 1]
    height, width = images.shape[1:3]
    size = 1 << (max(height, width) - 1).bit_length()
    heights = plasma(draws.uniform(-1.0, 1.0, size, size), decay).to(images.device)
    brightest = images.amax((1, 2, 3), keepdim=True)
    foggy = images + thick * heights[:, :height, :width, None]
    return foggy * brightest / (brightest + thick)
