"""Images in the forms that users have them in: folders, files and arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tl.data.images.decoding import PixelRange, Size, decode, pixels_of
from tl.data.images.listing import list_images


def files_in(given: object) -> list[Any] | None:
    """Return the images in a folder; ``None`` if it is not one.

    Raises:
        ValueError: If it holds none.
    """
    if not (isinstance(given, str | Path) and Path(given).expanduser().is_dir()):
        return None
    found = list_images(Path(given).expanduser())
    if not found:
        raise ValueError(f"The folder {given} holds no images.")
    return [*found]


def decoded(sample: str | Path, size: Size, pixel_range: PixelRange | None = None) -> Any:  # noqa: ANN401 - pixels
    """Read an image file, or an array of one as ``.npy``."""
    path = Path(sample).expanduser()
    if not path.is_file():
        raise ValueError(f"no such file: {sample}")
    if path.suffix.lower() != ".npy":
        return decode(path, size, pixel_range)
    try:
        array = np.load(path, allow_pickle=False)
    except EOFError:
        raise ValueError("the file is empty") from None
    return pixels_of(as_picture(array, pixel_range), size, pixel_range)


def as_picture(array: np.ndarray[Any, Any], pixel_range: PixelRange | None = None) -> Image.Image:
    """Return an array as an image.

    Args:
        array: Bytes, or floats from 0 to 1.
        pixel_range: What integers of one channel and more than 8 bits become black and white at;
            `None` refuses them.

    Raises:
        ValueError: If its shape or values are not those of an image.
    """
    if array.ndim == 3 and array.shape[2] == 1:  # noqa: PLR2004 - one channel
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):  # noqa: PLR2004
        raise ValueError(f"an array of shape {array.shape} is not an image; expected (H, W, 3)")
    if pixel_range is not None and array.ndim == 2 and array.dtype != np.uint8:  # noqa: PLR2004
        if array.dtype.kind not in "iu":
            raise ValueError(
                f"an array of {array.dtype} is ambiguous: in training, {pixel_range[0]:g} became "
                f"black and {pixel_range[1]:g} white (`pixel_range`); give such whole numbers, a "
                "file, or uint8"
            )
        return Image.fromarray(array.astype(np.float32))
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"its values reach from {low:g} to {high:g}; expected bytes from 0 to 255, or "
                "floats from 0 to 1 that are not normalised"
            )
        array = np.round(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"an array of {array.dtype} is not an image; expected uint8, or floats")
    return Image.fromarray(array)
