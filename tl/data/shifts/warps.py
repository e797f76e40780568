"""Pixelate, elastic and JPEG of CIFAR-10-C (Hendrycks & Dietterich, 2019, arXiv:1903.12261).

The constants are those of the authors' script for images of 32x32 pixels; lengths grow with the
image. All functions take images ``(N, H, W, 3)`` float32 from 0 to 1 and a severity from 1 to 5.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from tl.data.shifts.blurs import normal_kernel, smoothed
from tl.data.shifts.draws import ImageDraws

_HALF = 0.5  # of the box filter


def _box(size: int, to: int) -> Tensor:
    """Return the weights ``(to, size)`` with which Pillow's box filter resizes a line."""
    scale = size / to
    centres = (torch.arange(to, dtype=torch.float64) + 0.5) * scale
    places = torch.arange(size, dtype=torch.float64) + 0.5
    away = (places - centres[:, None]) / max(scale, 1.0)
    weights = ((away > -_HALF) & (away <= _HALF)).double()
    return (weights / weights.sum(1, keepdim=True)).float()


def pixelate(images: Tensor, severity: int) -> Tensor:
    """Resize to fewer pixels and back with a box filter."""
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    for dim in (1, 2):
        size = images.shape[dim]
        small = max(1, int(size * share))
        there_and_back = (_box(small, size) @ _box(size, small)).to(images.device)
        images = (images.transpose(dim, -1) @ there_and_back.T).transpose(dim, -1)
    return images


def elastic(images: Tensor, severity: int, draws: ImageDraws) -> Tensor:
    """Move three points of an image at random, and every pixel a little by smooth fields."""
    amount, sigma, moves = (
        (0.0, 0.0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    )[severity - 1]
    height, width = images.shape[1:3]
    size, third = min(height, width), min(height, width) // 3
    x, y = float(width // 2), float(height // 2)
    before = torch.tensor([[x + third, y + third], [x + third, y - third], [x - third, y - third]])
    after = before + draws.uniform(-moves * size, moves * size, 3, 2)
    # the map from new to old places: old = (new, 1) @ solution
    new = torch.cat([after, torch.ones(len(images), 3, 1)], 2).double()
    solution = torch.linalg.solve(new, before.double().expand(len(images), 3, 2))
    lines, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([columns, lines, torch.ones_like(lines)], -1).double()
    old = torch.einsum("hwk,nkc->nhwc", places, solution).float()
    maps = images.permute(0, 3, 1, 2)
    maps = _sampled(maps, old.to(images.device), corners=True)
    fields = draws.uniform(-1.0, 1.0, 2, height, width)
    if amount:
        kernel = normal_kernel(sigma * size, truncate=3.0)
        reach = len(kernel) // 2
        fields = amount * size * smoothed(_mirrored(fields, reach), kernel)
        fields = fields[:, :, reach : reach + height, reach : reach + width]
        moved = torch.stack([columns + fields[:, 0], lines + fields[:, 1]], -1)
        maps = _sampled(maps, moved.to(images.device), corners=False)
    return maps.permute(0, 2, 3, 1)


def _mirrored(maps: Tensor, reach: int) -> Tensor:
    """Continue maps ``(N, C, H, W)`` beyond their borders by a mirror image, border included."""
    for dim in (2, 3):
        first, last = maps.narrow(dim, 0, reach), maps.narrow(dim, maps.shape[dim] - reach, reach)
        maps = torch.cat([first.flip(dim), maps, last.flip(dim)], dim)
    return maps


def _sampled(maps: Tensor, places: Tensor, *, corners: bool) -> Tensor:
    """Interpolate maps ``(N, C, H, W)`` at places ``(N, H, W, 2)`` as ``(x, y)`` in pixels."""
    height, width = maps.shape[2:]
    size = torch.tensor([width, height], device=maps.device)
    grid = 2 * places / (size - 1) - 1 if corners else (2 * places + 1) / size - 1
    return functional.grid_sample(
        maps, grid, mode="bilinear", padding_mode="reflection", align_corners=corners
    )


def jpeg(images: Tensor, severity: int) -> Tensor:
    """Store images as JPEG and read them again, one by one; files that were JPEG hardly change."""
    quality = (80, 65, 58, 50, 40)[severity - 1]
    found = []
    for image in (images * 255).round().byte().cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        found.append(torch.from_numpy(np.array(Image.open(file))))
    return torch.stack(found).to(images.device).float() / 255
