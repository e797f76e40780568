"""Batched augmentation and normalisation, on the training device.

One whole batch is cropped and flipped by a single gather of pixel rows: no Python loop, no
per-image transform, the same code on the CPU and on a GPU. The random numbers are drawn on the
CPU from a generator that the caller seeds, so that they do not depend on the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tl.data.images.windows import Windows
from tl.data.options import check_options

#: Places of an enlarged image's window, from one border to the other.
PLACES = 2**16
MILLION = 10**6


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
        scales: Enlarge each image by one of these factors, at random, and cut a window of its own
            size from a random place (Xu et al., 2018, arXiv:1805.04409, use 1, 1.2 and 1.5 for
            dense tasks). Empty turns it off.

    Raises:
        TypeError: If an option has another type.
        ValueError: If `padding` or `cutout` is negative, or a scale below 1.
    """

    padding: int = 4
    flip: bool = True
    cutout: int = 0
    scales: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_options(self)
        for name in ("padding", "cutout"):
            if getattr(self, name) < 0:
                raise ValueError(f"`augment.{name}` must be 0 or more, got {getattr(self, name)}.")
        scales = tuple(float(scale) for scale in self.scales)
        if not all(1 <= scale < float("inf") for scale in scales):
            raise ValueError(f"`augment.scales` must be 1 or more, got {list(scales)}.")
        object.__setattr__(self, "scales", scales)

    @property
    def moves(self) -> bool:
        """Return whether images are cropped or mirrored."""
        return bool(self.padding or self.flip)


class Normalisation:
    """Scale pixel values 0-255 to zero mean and unit variance per channel.

    Args:
        mean: ``(3,)`` channel means in pixel values.
        std: ``(3,)`` channel standard deviations in pixel values.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean = mean
        self.std = std
        self._rows: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalise images.

        Args:
            pixels: ``(N, H, W, 3)`` uint8, or float that holds the same 0-255 values.

        Returns:
            ``(N, 3, H, W)`` float32 in channels-last memory.
        """
        n, height, width, channels = pixels.shape
        key = (width, pixels.device)
        if key not in self._rows:
            scale = (1.0 / self.std).to(pixels.device, torch.float32)
            shift = -self.mean.to(pixels.device, torch.float32) * scale
            self._rows[key] = (scale.repeat(width), shift.repeat(width))
        scale, shift = self._rows[key]
        # one multiply-add over whole pixel rows: 5 to 9 times faster than broadcasting 3 channels
        flat = pixels.view(n, height, width * channels).to(torch.float32)
        flat = torch.addcmul(shift, flat, scale)
        return flat.view(n, height, width, channels).permute(0, 3, 1, 2)


def draw(
    count: int, settings: Augment, height: int, width: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draw the random numbers of `count` images.

    Args:
        count: Number of images ``N``.
        settings: What they are for.
        height: Lines of an image.
        width: Columns of an image.
        generator: Source of the random numbers, on the CPU; ``None`` is torch's global one.

    Returns:
        ``(5, N)`` int64: first line and column of the crop in the padded image, 1 for a mirror
        image, line and column of the cutout's centre. With `scales` ``(8, N)``: also the scale in
        millionths, and the place of the window, see `tl.data.images.zoom.zoom_of`.
    """
    ends = [*(2 * settings.padding + 1,) * 2, 2, height, width]
    if settings.scales:
        ends += [len(settings.scales), PLACES, PLACES]
    drawn = torch.empty(len(ends), count, dtype=torch.int64)
    for row, end in enumerate(ends):
        torch.randint(0, end, (count,), generator=generator, out=drawn[row])
    if not settings.flip:
        drawn[2] = 0
    if settings.scales:  # whole numbers, so that a step on a GPU moves nothing
        drawn[5] = (torch.tensor(settings.scales) * MILLION).round().long()[drawn[5]]
    return drawn


def augment(pixels: Tensor, settings: Augment, fill: Tensor, draws: Tensor) -> Tensor:
    """Crop, flip and cut out each image of a batch independently.

    Args:
        pixels: ``(N, H, W, 3)`` uint8 or float, values 0-255.
        settings: What to do.
        fill: ``(3,)`` colour of the cutout squares in pixel values.
        draws: Random numbers ``(5 or 8, N)`` of :func:`draw`, on the images' device.

    Returns:
        A batch of the same shape and type.

    Raises:
        ValueError: If the padding is not smaller than the image.
    """
    if settings.moves:
        windows = Windows(pixels, settings.padding, flip=settings.flip)
        every = torch.arange(len(pixels), device=pixels.device)
        pixels = windows.cut(every, *draws[:3])
    return cut_out(pixels, settings, fill, draws)


def cut_out(pixels: Tensor, settings: Augment, fill: Tensor, draws: Tensor) -> Tensor:
    """Fill a square of each image ``(N, H, W, 3)``, as :func:`augment` does last."""
    side = settings.cutout
    if not side:
        return pixels
    _, height, width, _ = pixels.shape
    top, left = draws[3] - side // 2, draws[4] - side // 2
    lines = torch.arange(height, device=pixels.device)
    columns = torch.arange(width, device=pixels.device)
    rows = (lines >= top[:, None]) & (lines < top[:, None] + side)
    cols = (columns >= left[:, None]) & (columns < left[:, None] + side)
    hole = (rows[:, :, None] & cols[:, None, :])[..., None]
    colour = fill if pixels.is_floating_point() else fill.round()
    return torch.where(hole, colour.to(pixels.device, pixels.dtype), pixels)
