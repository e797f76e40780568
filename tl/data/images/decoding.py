"""One image file as 8-bit RGB pixels, by stated rules."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, ImageOps

from tl.data.cache import Pixels
from tl.data.images.jpeg import plain_jpeg
from tl.reading import check_regular

#: Part of the key of cached pixels: raise it whenever `decode` gives other pixels than before.
DECODER_VERSION = 2
#: What shows through transparent pixels.
BACKGROUND = (255, 255, 255)

# drawings and documents; EPS starts another program, and the others give no pixels by themselves
_NO_RASTER = frozenset({"EPS", "WMF", "PDF", "MPEG"})
# TIFF files in which Pillow finds a preview of the photograph
_CAMERA_RAW = frozenset(
    {".arw", ".cr2", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raw", ".rw2", ".srw"}
)
_PHOTOMETRIC, _BITS, _MOST = 262, 258, 281  # tags of TIFF
_TWELVE_BITS = 4095

PixelRange = tuple[float, float]
Size = int | tuple[int, int]  # of both sides, or height and width


@cache
def raster_formats() -> tuple[str, ...]:
    """List the formats that Pillow reads by itself, those with a signature first."""
    Image.init()

    def reads(name: str) -> bool:
        reader = Image.OPEN[name][0]
        stub = isinstance(reader, type) and issubclass(reader, ImageFile.StubImageFile)
        return name not in _NO_RASTER and not stub

    names = [name for name in Image.ID if reads(name)]
    return tuple(sorted(names, key=lambda name: Image.OPEN[name][1] is None))


def open_image(path: Path) -> Image.Image:
    """Open a raster file by its content, whatever its name.

    Raises:
        PIL.UnidentifiedImageError: If Pillow does not read it by itself.
        ValueError: If it is a pipe or a device.
    """
    check_regular(path)
    return Image.open(path, formats=raster_formats())


def sides(size: Size) -> tuple[int, int]:
    """Return height and width."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def decoder_key(size: Size, pixel_range: PixelRange | None) -> str:
    """Return everything besides a file's content that determines its pixels."""
    return f"{DECODER_VERSION} {PIL.__version__} {size} {pixel_range}"


def decode(path: Path, size: Size, pixel_range: PixelRange | None = None) -> Pixels:
    """Read one image as ``(H, W, 3)`` uint8: upright, RGB, resized and centre-cropped.

    - 8 bits per channel are read as they are. Transparent pixels are composed on white. Of an
      animation or a file of several pages the first is read.
    - 16-bit integers are divided by 257; a TIFF of 12 bits, or whose tag MaxSampleValue is
      ``2^k - 1``, is scaled to that value. Any other 16-bit image whose values all lie below 4096
      is refused: it may hold 12 bits.
    - Floating-point numbers and 32-bit integers: floats from 0 to 1 are multiplied by 255, whole
      numbers from 0 to 255 are read as they are, all others are refused.
    - `pixel_range` replaces the last two rules.

    Args:
        path: The file.
        size: Pixels of both sides, or height and width.
        pixel_range: Values that become 0 and 255 in images of more than 8 bits per channel,
            linearly in between and clipped outside.

    Raises:
        ValueError: If the values of the pixels have no stated meaning.
    """
    if (plain := plain_jpeg(path)) is not None:
        same = plain.shape[:2] == sides(size)
        return plain if same else _sized(Image.fromarray(plain), size)
    with open_image(path) as image:
        if image.format == "TIFF" and path.suffix.lower() in _CAMERA_RAW:
            raise ValueError("a camera's raw file, of which Pillow reads the preview only")
        sixteen_bit_colour = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith(("I", "F")):
            rgb = _deep_grey(upright, image, pixel_range)
        else:
            rgb = _rgb(upright)
            if sixteen_bit_colour:
                _check_colour(rgb, pixel_range)
        return _sized(rgb, size)


def pixels_of(image: Image.Image, size: Size, pixel_range: PixelRange | None = None) -> Pixels:
    """Return an image in memory as :func:`decode` reads one from a file.

    Args:
        image: The image; of 8 bits per channel without a `pixel_range`.
        size: Height and width in pixels.
        pixel_range: As for :func:`decode`.

    Raises:
        ValueError: If the values of the pixels have no stated meaning.
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        if pixel_range is not None:
            return _sized(_deep_grey(upright, image, pixel_range), size)
        raise ValueError(
            f"an image of mode {image.mode} has more than 8 bits per channel; save it as a file, "
            "of which the meaning of its values is known"
        )
    return _sized(_rgb(upright), size)


def _sized(rgb: Image.Image, size: Size) -> Pixels:
    height, width = sides(size)
    if rgb.size != (width, height):
        rgb = ImageOps.fit(rgb, (width, height), Image.Resampling.BICUBIC)
    return np.asarray(rgb)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        spaces = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.buildTransform(*spaces, "LAB", "RGB").apply(image)
    if image.mode in ("La", "RGBa"):  # colours are multiplied by alpha
        image = image.convert(image.mode.upper())
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image)
    return image.convert("RGB")


def _deep_grey(
    image: Image.Image, file: Image.Image, pixel_range: PixelRange | None
) -> Image.Image:
    """Scale one channel of more than 8 bits, which Pillow would clip at 255."""
    values = np.asarray(image, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("has values that are not finite")
    # a portable grey map is scaled to 16 bits; older releases of Pillow read a 16-bit PNG as I
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and file.format in ("PNG", "PPM"))
    if sixteen and file.format == "FITS":
        raise ValueError("16-bit FITS, whose offset Pillow does not apply")
    low, high = pixel_range or _range_of(values, file, sixteen=sixteen)
    pixels = ((values - low) * (255 / (high - low))).clip(0, 255)
    if sixteen and _tag(file, _PHOTOMETRIC) == 0:  # white is zero; Pillow inverts 8 bits only
        pixels = 255 - pixels
    if isinstance(clear := image.info.get("transparency"), int):
        pixels[values == clear] = 255
    return Image.fromarray((pixels + 0.5).astype(np.uint8)).convert("RGB")


def _range_of(values: NDArray[np.float64], file: Image.Image, *, sixteen: bool) -> PixelRange:
    """Return the values that become 0 and 255."""
    low, high = float(values.min()), float(values.max())
    found = f"{low:g} to {high:g}"
    if sixteen:
        most = _tag(file, _MOST) or 0
        if _tag(file, _BITS) == 12:  # noqa: PLR2004 - bits
            return 0, _TWELVE_BITS
        if high <= most and most > 255 and most & (most + 1) == 0:  # noqa: PLR2004 - 8 bits
            return 0, most
        if 0 < high <= _TWELVE_BITS:
            raise ValueError(
                f"16-bit values {found}; declare what they mean: `pixel_range: [0, 4095]` for 12 "
                "bits, `[0, 65535]` for a dark image"
            )
        return 0, 65535
    if file.mode == "F" and low >= 0 and high <= 1:
        return 0, 1
    if low >= 0 and high <= 255 and high != 1 and (values == values.round()).all():  # noqa: PLR2004
        return 0, 255
    kind = "floating-point" if file.mode == "F" else "32-bit"
    raise ValueError(f"{kind} values {found}; say with `pixel_range` which become black and white")


def _check_colour(rgb: Image.Image, pixel_range: PixelRange | None) -> None:
    """Refuse 16-bit colour, of which Pillow reads the upper 8 bits, where those do not suffice."""
    high = int(np.asarray(rgb).max())
    if pixel_range not in (None, (0, 65535)) or (pixel_range is None and 0 < high <= 15):  # noqa: PLR2004
        raise ValueError(
            "16-bit colour, of which Pillow reads the upper 8 bits only; store it as 8 bits"
            + (", or set `pixel_range: [0, 65535]` for a dark image" if pixel_range is None else "")
        )


def _tag(file: Image.Image, number: int) -> int | None:
    """Return the first value of a tag of a TIFF."""
    found = getattr(file, "tag_v2", {}).get(number)
    return int(found[0] if isinstance(found, tuple) else found) if found is not None else None
