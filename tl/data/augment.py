"""Batched augmentation and normalisation, on the device that trains.

One whole batch is cropped and flipped by a single gather of pixel rows: no Python loop, no
per-image transform, the same code on the CPU and on a GPU. The random numbers are drawn on the
CPU from a generator that the caller seeds, so that they do not depend on the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Augment:
    """Random crop, horizontal flip and cutout for training images.

    ``Augment(padding=0, flip=False)`` leaves images as they are.

    Args:
        padding: Pixels of reflection around the image before a random crop of its own size (He et
            al., 2016, section 4.2, pad by 4; reflection leaves no black border). 0 turns it off.
        flip: Mirror each image left to right with probability 1/2.
        cutout: Side in pixels of a square, at a random place and cut off at the border, that is
            set to the mean colour (DeVries & Taylor, 2017, arXiv:1708.04552; they use 16 on
            CIFAR-10 and 8 on CIFAR-100). 0 turns it off.

    Raises:
        ValueError: If `padding` or `cutout` is negative.
    """

    padding: int = 4
    flip: bool = True
    cutout: int = 0

    def __post_init__(self) -> None:
        for name in ("padding", "cutout"):
            if getattr(self, name) < 0:
                raise ValueError(f"`augment.{name}` must be 0 or more, got {getattr(self, name)}.")


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Turn pixel values 0-255 into zero mean and unit variance per channel.

    Args:
        images: ``(N, 3, H, W)`` uint8, or float that holds the same 0-255 values.
        mean: ``(3,)`` channel means in pixel values.
        std: ``(3,)`` channel standard deviations in pixel values.

    Returns:
        ``(N, 3, H, W)`` float32 in channels-last memory.
    """
    rows = images.permute(0, 2, 3, 1).contiguous()
    n, height, width, channels = rows.shape
    scale = (1.0 / std).to(rows.device, torch.float32)
    shift = -mean.to(rows.device, torch.float32) * scale
    # one multiply-add over whole pixel rows: 5 to 9 times faster than broadcasting 3 channels
    flat = rows.view(n, height, width * channels).to(torch.float32)
    flat = torch.addcmul(shift.repeat(width), flat, scale.repeat(width))
    return flat.view(n, height, width, channels).permute(0, 3, 1, 2)


def augment(
    images: Tensor, settings: Augment, fill: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Crop, flip and cut out each image of a batch independently.

    Args:
        images: ``(N, 3, H, W)`` uint8 or float, values 0-255.
        settings: What to do.
        fill: ``(3,)`` colour of the cutout squares in pixel values.
        generator: Source of the random numbers, on the CPU; ``None`` is torch's global one.

    Returns:
        A batch of the same shape and type, in channels-last memory.

    Raises:
        ValueError: If the padding is not smaller than the image.
    """
    pixels = images.permute(0, 2, 3, 1).contiguous()
    n, height, width, _ = pixels.shape
    pad = settings.padding
    if pad >= min(height, width):
        raise ValueError(
            f"`augment.padding` must be smaller than the image, got {pad} for {height}x{width}."
        )
    device = pixels.device
    shift = torch.randint(0, 2 * pad + 1, (2, n), generator=generator).to(device)
    mirror = torch.randint(0, 2, (n,), generator=generator).to(device)
    centre = torch.stack(
        [
            torch.randint(0, height, (n,), generator=generator),
            torch.randint(0, width, (n,), generator=generator),
        ]
    ).to(device)
    if pad or settings.flip:
        if pad:
            pixels = pixels.index_select(1, _reflected(height, pad, device))
            pixels = pixels.index_select(2, _reflected(width, pad, device))
        if not settings.flip:
            mirror.zero_()
        pixels = _gather_rows(pixels, height, width, shift, mirror)
    if settings.cutout:
        pixels = _cut_out(pixels, settings.cutout, centre, fill)
    return pixels.permute(0, 3, 1, 2)


def _reflected(size: int, pad: int, device: torch.device) -> Tensor:
    """Indices of a line of `size` pixels with `pad` mirrored pixels at each end."""
    index = torch.arange(-pad, size + pad, device=device).abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)


def _gather_rows(pixels: Tensor, height: int, width: int, shift: Tensor, mirror: Tensor) -> Tensor:
    """Cut a ``height x width`` window out of each padded image, mirrored where asked.

    A window's row is contiguous in memory, so that the whole batch is one gather over a strided
    view ``(mirrored, image, row, first column, row of the window)``.
    """
    n, padded_height, padded_width, channels = pixels.shape
    both = torch.stack([pixels, pixels.flip(2)])
    row = padded_width * channels
    windows = both.as_strided(
        (2, n, padded_height, padded_width - width + 1, width * channels),
        (n * padded_height * row, padded_height * row, row, channels, 1),
    )
    image = torch.arange(n, device=pixels.device)[:, None]
    line = torch.arange(height, device=pixels.device)[None, :] + shift[0][:, None]
    out = windows[mirror[:, None], image, line, shift[1][:, None]]
    return out.view(n, height, width, channels)


def _cut_out(pixels: Tensor, side: int, centre: Tensor, fill: Tensor) -> Tensor:
    _, height, width, _ = pixels.shape
    top, left = centre[0] - side // 2, centre[1] - side // 2
    lines = torch.arange(height, device=pixels.device)
    columns = torch.arange(width, device=pixels.device)
    rows = (lines >= top[:, None]) & (lines < top[:, None] + side)
    cols = (columns >= left[:, None]) & (columns < left[:, None] + side)
    hole = (rows[:, :, None] & cols[:, None, :])[..., None]
    return torch.where(hole, fill.round().to(pixels.device, pixels.dtype), pixels)
