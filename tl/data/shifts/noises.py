"""Noises of CIFAR-10-C (Hendrycks & Dietterich, 2019, arXiv:1903.12261).

The constants are those of the authors' script for images of 32x32 pixels, ``make_cifar_c.py`` of
hendrycks/robustness. All functions take images ``(N, H, W, 3)`` float32 from 0 to 1, a severity
from 1 to 5, and random numbers; the caller clips what they return.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tl.data.shifts.draws import ImageDraws


def gaussian_noise(images: Tensor, severity: int, draws: ImageDraws) -> Tensor:
    """Add normal noise, as a sensor does in low light."""
    std = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return images + std * draws.normal(*images.shape[1:]).to(images.device)


def shot_noise(images: Tensor, severity: int, draws: ImageDraws) -> Tensor:
    """Count photons: Poisson noise."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return draws.poisson(images * photons).to(images.device) / photons


def impulse_noise(images: Tensor, severity: int, draws: ImageDraws) -> Tensor:
    """Set a share of all values to 0 or 1, each equally often: salt and pepper."""
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    dice = draws.uniform(0.0, 1.0, *images.shape[1:]).to(images.device)
    salted = torch.where(dice < share / 2, torch.ones_like(images), images)
    return torch.where(dice > 1 - share / 2, torch.zeros_like(images), salted)


def speckle_noise(images: Tensor, severity: int, draws: ImageDraws) -> Tensor:
    """Add normal noise in proportion to the brightness."""
    std = (0.06, 0.10, 0.12, 0.16, 0.20)[severity - 1]
    return images + images * std * draws.normal(*images.shape[1:]).to(images.device)
