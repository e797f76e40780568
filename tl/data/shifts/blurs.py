"""Blurs of CIFAR-10-C (Hendrycks & Dietterich, 2019, arXiv:1903.12261), and sketches.

The constants are those of the authors' script for images of 32x32 pixels; lengths grow with the
image. All functions take images ``(N, H, W, 3)`` float32 from 0 to 1 and a severity from 1 to 5;
the caller clips what they return.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from tl.data.shifts.colours import luma
from tl.data.shifts.draws import ImageDraws


def relative(images: Tensor) -> float:
    """Return the size of images relative to 32 pixels."""
    return min(images.shape[1:3]) / 32


def normal_kernel(sigma: float, truncate: float = 4.0) -> Tensor:
    """Return a normalised Gaussian ``(2 r + 1,)``, cut off at ``r = truncate * sigma``."""
    radius = int(truncate * sigma + 0.5)
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (steps / max(sigma, 1e-6)).square())
    return weights / weights.sum()


def _channels_first(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2)


def _channels_last(images: Tensor) -> Tensor:
    return images.permute(0, 2, 3, 1)


def smoothed(maps: Tensor, kernel: Tensor, dims: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Convolve maps ``(N, C, H, W)`` along each axis; values beyond a border are the border's."""
    radius, channels = len(kernel) // 2, maps.shape[1]
    for dim in dims:
        upright = dim == -2  # noqa: PLR2004 - lines
        shape = (-1, 1) if upright else (1, -1)
        weights = kernel.to(maps.device).view(1, 1, *shape).expand(channels, 1, *shape)
        pad = (0, 0, radius, radius) if upright else (radius, radius, 0, 0)
        padded = functional.pad(maps, pad, mode="replicate")
        maps = functional.conv2d(padded, weights, groups=channels)
    return maps


def gaussian_blur(images: Tensor, severity: int) -> Tensor:
    """Blur with a Gaussian."""
    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1] * relative(images)
    return _channels_last(smoothed(_channels_first(images), normal_kernel(sigma)))


def disk(radius: float, alias: float) -> Tensor:
    """Return a disk as a normalised kernel ``(K, K)``, smoothed by 3x3 against aliasing."""
    reach = math.floor(radius) + 1
    steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
    found = ((steps[:, None].square() + steps.square()) <= radius**2).float()
    line = torch.exp(-0.5 * (torch.arange(-1, 2) / alias).square())
    line = line / line.sum()
    smooth = functional.conv2d(
        (found / found.sum())[None, None], (line[:, None] * line)[None, None], padding=1
    )
    return smooth[0, 0]


def defocus_blur(images: Tensor, severity: int) -> Tensor:
    """Blur with a disk, as a lens out of focus."""
    radius, alias = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[severity - 1]
    kernel = disk(radius * relative(images), alias).to(images.device)
    reach = len(kernel) // 2
    # images of a line or two have too few pixels to reflect
    mode = "reflect" if reach < min(images.shape[1:3]) else "replicate"
    padded = functional.pad(_channels_first(images), (reach,) * 4, mode=mode)
    return _channels_last(functional.conv2d(padded, kernel.expand(3, 1, *kernel.shape), groups=3))


def motion_blur(images: Tensor, severity: int, draws: ImageDraws) -> Tensor:
    """Smear each image along its own line, within 45 degrees of the horizontal.

    As ImageMagick does it, which the authors' script calls: half a Gaussian over ``2 r + 1`` steps
    of a pixel each, rounded to whole pixels.
    """
    radius, sigma = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[severity - 1]
    scale = relative(images)
    steps = torch.arange(round(2 * radius * scale) + 1, dtype=torch.float32)
    weights = torch.exp(-0.5 * (steps / (sigma * scale)).square())
    shares: list[float] = (weights / weights.sum()).tolist()
    angle = draws.uniform(-math.pi / 4, math.pi / 4, 1, 1).to(images.device)
    _, height, width, _ = images.shape
    lines = torch.arange(height, device=images.device)[:, None]
    columns = torch.arange(width, device=images.device)
    which = torch.arange(len(images), device=images.device)[:, None, None]
    found = torch.zeros_like(images)
    for step, share in enumerate(shares):
        down = (step * angle.sin()).round().long() + lines
        right = (step * angle.cos()).round().long() + columns
        found += share * images[which, down.clamp(0, height - 1), right.clamp(0, width - 1)]
    return found


def zoom_blur(images: Tensor, severity: int) -> Tensor:
    """Average an image with enlarged ones, as a lens that zooms while the shutter is open."""
    factors = [1 + 0.01 * step for step in range((7, 12, 16, 21, 26)[severity - 1])]
    height, width = images.shape[1:3]
    maps = _channels_first(images)
    found = maps.clone()
    for factor in factors:
        cut = [math.ceil(size / factor) for size in (height, width)]
        top, left = (height - cut[0]) // 2, (width - cut[1]) // 2
        part = maps[:, :, top : top + cut[0], left : left + cut[1]]
        size = [max(round(c * factor), s) for c, s in zip(cut, (height, width), strict=True)]
        large = functional.interpolate(part, size, mode="bilinear", align_corners=True)
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        found += large[:, :, top : top + height, left : left + width]
    return _channels_last(found / (len(factors) + 1))


def sketch(images: Tensor, severity: int) -> Tensor:
    """Mix an image with its edges as dark lines on paper (ours); severity 5 is lines alone.

    A line is as dark as the length of Sobel's gradient of the brightness, which is 4 at a sharp
    edge from black to white.
    """
    grey = luma(images).permute(0, 3, 1, 2)
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([across, across.T])[:, None].to(images.device)
    slopes = functional.conv2d(functional.pad(grey, (1,) * 4, mode="replicate"), kernels)
    paper = 1 - slopes.square().sum(1, keepdim=True).sqrt().clamp(max=1)
    share = severity / 5
    return (1 - share) * images + share * _channels_last(paper)
