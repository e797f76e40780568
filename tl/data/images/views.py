"""Two random views of each image of a batch, made on the device that trains.

The operations are torchvision's ``RandomResizedCrop``, flip, ``ColorJitter``, ``RandomGrayscale``,
``GaussianBlur`` and ``RandomSolarize``, for a whole batch at once, with the random numbers of each
image drawn beforehand. Two differences: colours change in the order brightness, contrast,
saturation, hue instead of a random one, and the blur covers the whole image instead of a window.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tl.data.options import check_options

#: Random numbers of one view, in the order of the rows that :func:`draw_views` returns.
ROWS = (
    *("top", "left", "height", "width", "mirror"),
    *("brightness", "contrast", "saturation", "hue", "grey", "sigma", "solarise"),
)
_ATTEMPTS = 10  # torchvision's, before it takes the central window
_RATIO = (3 / 4, 4 / 3)  # width by height of a window
_GREY = (0.2989, 0.587, 0.114)  # of red, green and blue, torchvision's


@dataclass(frozen=True)
class Views:
    """How a random view of an image is made; the defaults are SimCLR's for CIFAR-10.

    A window of random size and place, enlarged to the whole image; a mirror image; other colours;
    no colours (Chen et al., 2020, arXiv:2002.05709, appendix A and B.9; without blur at 32x32).

    Args:
        crop: Smallest and largest area of the window, as a fraction of the image. Its width is 3/4
            to 4/3 of its height.
        flip: Probability of a mirror image.
        jitter: Probability of other colours.
        brightness: Largest change of the brightness factor around 1.
        contrast: The same for the contrast.
        saturation: The same for the saturation.
        hue: Largest turn of the hue, in turns, at most 0.5.
        grey: Probability of a grey image.
        blur: Probability of a Gaussian blur, for the first and for the second view. BYOL uses 1 and
            0.1 on ImageNet.
        blur_sigma: Smallest and largest standard deviation of the blur in pixels.
        solarise: Probability that pixels above one half are inverted, by view; BYOL uses 0 and 0.2.

    Raises:
        TypeError: If an option has another type.
        ValueError: If one is out of range.
    """

    crop: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey: float = 0.2
    blur: tuple[float, float] = (0.0, 0.0)
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarise: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        check_options(self)
        for name in ("crop", "blur", "blur_sigma", "solarise"):
            pair = tuple(float(value) for value in getattr(self, name))
            if len(pair) != 2:  # noqa: PLR2004 - a pair
                raise ValueError(f"`views.{name}` must be two numbers, got {list(pair)}.")
            object.__setattr__(self, name, pair)
        low, high = self.crop
        if not 0 < low <= high <= 1:
            raise ValueError(
                f"`views.crop` must be two fractions of the area, above 0 and at most 1, the "
                f"smaller first, got {list(self.crop)}."
            )
        chances = {name: getattr(self, name) for name in ("flip", "jitter", "grey")}
        chances |= {f"{n}[{i}]": getattr(self, n)[i] for n in ("blur", "solarise") for i in (0, 1)}
        for name, value in chances.items():
            if not 0 <= value <= 1:
                raise ValueError(f"`views.{name}` is a probability, from 0 to 1, got {value}.")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"`views.{name}` must be 0 or more, got {getattr(self, name)}.")
        if not 0 <= self.hue <= 0.5:  # noqa: PLR2004 - half a turn
            raise ValueError(f"`views.hue` must be from 0 to 0.5, got {self.hue}.")
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1] < float("inf"):
            raise ValueError(
                "`views.blur_sigma` must be two numbers above 0, the smaller first, got "
                f"{list(self.blur_sigma)}."
            )


def draw_views(
    count: int, settings: Views, height: int, width: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draw the random numbers of two views of each of `count` images.

    Args:
        count: Number of images ``N``.
        settings: What they are for.
        height: Lines of an image.
        width: Columns of an image.
        generator: Source of the random numbers, on the CPU; ``None`` is torch's global one.

    Returns:
        ``(2 * len(ROWS), N)`` float32: the rows of the first view, then those of the second.
    """
    views = [_draw_view(count, settings, height, width, generator, view) for view in (0, 1)]
    return torch.cat(views)


def _draw_view(
    count: int,
    settings: Views,
    height: int,
    width: int,
    generator: torch.Generator | None,
    view: int,
) -> Tensor:
    found = torch.empty(len(ROWS), count)
    found[:4] = _windows(count, settings, height, width, generator)
    u = torch.rand(10, count, generator=generator)
    found[4] = u[0] < settings.flip
    jitters = u[1] < settings.jitter
    for row, name in enumerate(("brightness", "contrast", "saturation"), 5):
        most = getattr(settings, name)
        low = max(0.0, 1 - most)
        found[row] = torch.where(jitters, low + u[row - 3] * (1 + most - low), 1.0)
    found[8] = torch.where(jitters, (2 * u[5] - 1) * settings.hue, 0.0)
    found[9] = u[6] < settings.grey
    low, high = settings.blur_sigma
    found[10] = torch.where(u[7] < settings.blur[view], low + u[8] * (high - low), 0.0)
    found[11] = u[9] < settings.solarise[view]
    return found


def _windows(
    count: int, settings: Views, height: int, width: int, generator: torch.Generator | None
) -> Tensor:
    """Draw windows as torchvision does: the first of ten that fits, else the central one.

    Returns:
        Top, left, height and width of each, ``(4, N)``, whole numbers.
    """
    u = torch.rand(2, _ATTEMPTS, count, generator=generator)
    low, high = settings.crop
    area = height * width * (low + u[0] * (high - low))
    bounds = torch.tensor(_RATIO).log()
    ratio = (bounds[0] + u[1] * (bounds[1] - bounds[0])).exp()
    wide, tall = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (wide >= 1) & (wide <= width) & (tall >= 1) & (tall <= height)
    first = (fits.cumsum(0) == 0).sum(0, keepdim=True).clamp_max(_ATTEMPTS - 1)
    wide, tall = wide.gather(0, first)[0], tall.gather(0, first)[0]
    at = torch.rand(2, count, generator=generator)
    top = (at[0] * (height - tall + 1)).floor().minimum(height - tall)
    left = (at[1] * (width - wide + 1)).floor().minimum(width - wide)
    none = ~fits.any(0)
    # the central window, of the nearest allowed shape
    most_wide, most_tall = (
        min(width, round(height * _RATIO[1])),
        min(height, round(width / _RATIO[0])),
    )
    central = [(height - most_tall) // 2, (width - most_wide) // 2, most_tall, most_wide]
    found = torch.stack([top, left, tall, wide])
    return torch.where(none, torch.tensor(central)[:, None], found)


def make_views(images: Tensor, settings: Views, draws: Tensor) -> Tensor:
    """Make two views of each image of a batch.

    Args:
        images: ``(N, 3, H, W)`` floats from 0 to 1.
        settings: How they are made; what is turned off costs nothing.
        draws: Random numbers of :func:`draw_views`, on the images' device.

    Returns:
        ``(2N, 3, H, W)``: the first view of all images, then the second.
    """
    rows = dict(zip(ROWS, torch.cat([*draws.chunk(2)], dim=1), strict=True))
    each = {name: row.view(-1, 1, 1, 1) for name, row in rows.items()}
    window = [rows[name] for name in ("top", "left", "height", "width", "mirror")]
    images = crop(images.repeat(2, 1, 1, 1), *window)
    if settings.jitter:
        images = (images * each["brightness"]).clamp(0, 1)
        images = _blend(images, grey(images).mean((1, 2, 3), keepdim=True), each["contrast"])
        images = _blend(images, grey(images), each["saturation"])
        images = turn_hue(images, each["hue"])
    if settings.grey:
        images = torch.where(each["grey"] > 0, grey(images), images)
    if any(settings.blur):
        images = blur(images, rows["sigma"])
    if any(settings.solarise):
        images = torch.where((each["solarise"] > 0) & (images >= 0.5), 1 - images, images)  # noqa: PLR2004
    return images


def _blend(images: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return (share * images + (1 - share) * other).clamp(0, 1)


def crop(
    images: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, mirror: Tensor
) -> Tensor:
    """Cut a window of each image and enlarge it to the whole, bilinearly.

    Both directions are products with matrices of weights, which is exact and fast on any device.

    Args:
        images: ``(N, C, H, W)``.
        top: First line of the windows ``(N,)``.
        left: First column ``(N,)``.
        height: Lines ``(N,)``.
        width: Columns ``(N,)``.
        mirror: 1 for a mirror image ``(N,)``.
    """
    n, channels, lines, columns = images.shape
    down = _weights(top, height, lines)
    across = _weights(left, width, columns)
    across = torch.where(mirror.view(-1, 1, 1) > 0, across.flip(1), across)
    wide = torch.bmm(images.reshape(n, channels * lines, columns), across.transpose(1, 2))
    return torch.matmul(down[:, None], wide.view(n, channels, lines, columns))


def _weights(first: Tensor, length: Tensor, size: int) -> Tensor:
    """Return weights ``(N, size, size)`` of the pixels of a line in an enlarged window."""
    place = torch.arange(size, device=first.device)
    centres = (place + 0.5) * (length[:, None] / size) - 0.5
    # a window's border is its last pixel, as if the rest had been cut away
    centres = first[:, None] + centres.clamp_min(0).minimum(length[:, None] - 1)
    return (1 - (centres[:, :, None] - place).abs()).clamp_min(0)


def grey(images: Tensor) -> Tensor:
    """Return the luma ``(N, 1, H, W)`` of images ``(N, 3, H, W)``."""
    red, green, blue = images.unbind(1)
    return (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue).unsqueeze(1)


def turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of each image, with value and chroma as they are.

    Args:
        images: ``(N, 3, H, W)`` from 0 to 1.
        turn: Turns ``(N, 1, 1, 1)``.
    """
    value, chroma = images.amax(1), images.amax(1) - images.amin(1)
    red, green, blue = images.unbind(1)
    safe = torch.where(chroma == 0, 1.0, chroma)
    sector = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sector = sector + 6 * turn[:, 0]
    places = sector.unsqueeze(1) + sector.new_tensor([5.0, 3.0, 1.0]).view(1, 3, 1, 1)
    places = places.remainder(6)
    share = places.minimum(4 - places).clamp(0, 1)
    return value.unsqueeze(1) - chroma.unsqueeze(1) * share


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image by a Gaussian of its own; weights beyond the border go to what is within.

    Args:
        images: ``(N, C, H, W)``.
        sigma: Standard deviations in pixels ``(N,)``; 0 leaves an image as it is.
    """
    down, across = (_gaussian(sigma, size) for size in images.shape[2:])
    found = torch.matmul(torch.matmul(down[:, None], images), across[:, None].transpose(2, 3))
    return torch.where(sigma.view(-1, 1, 1, 1) > 0, found, images)


def _gaussian(sigma: Tensor, size: int) -> Tensor:
    place = torch.arange(size, device=sigma.device, dtype=sigma.dtype)
    distance = (place[:, None] - place).square()
    weights = (-distance / (2 * sigma.clamp_min(1e-3).square()[:, None, None])).exp()
    return weights / weights.sum(2, keepdim=True)
