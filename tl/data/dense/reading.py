"""One image with its maps, read from files and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from tl.data.cache import Pixels
from tl.data.errors import DataError, one_line
from tl.data.images.decoding import decode, open_image
from tl.data.images.on_pixels import fitted
from tl.reading import check_regular
from tl.tasks import BinaryMap, Depth, Normals, Segmentation, Task
from tl.tasks.pixels import WrongPixelError

_ORIENTATION = 0x0112  # tag of EXIF
_TURNED = (5, 6, 7, 8)  # its values for images that lie on their side
_GREY = ("1", "L", "I", "F")
_OVERSHOOT = 0.01  # of a range of 1: resizing by cubic splines leaves it
_LONGEST = 2.0  # longer normals are not resized unit vectors
_YES = 255  # of a binary map with 8 bits


@dataclass(frozen=True)
class MapReader:
    """Reads the maps of one kind."""

    folder: str  # its name, for messages
    task: Task
    # of pixels without a target, besides NaN; a vector is one if all its parts have this value
    void: float | None = None
    scale: float | None = None  # what units are multiplied by, such as 0.001 for millimetres
    resized: bool = False  # by interpolation, after which normals are brought to length 1 again

    @property
    def dtype(self) -> torch.dtype:
        """The smallest type that holds the targets, as they may fill the memory."""
        if isinstance(self.task, BinaryMap):
            return torch.int8
        if isinstance(self.task, Segmentation):
            return (
                torch.int8
                if self.task.num_classes <= torch.iinfo(torch.int8).max
                else (torch.int16)
            )
        return torch.float32

    def read(self, path: Path) -> Tensor:
        """Read a map ``(H, W)`` or ``(C, H, W)``, checked; where there is no target, as the task.

        Raises:
            ValueError: If it is not one; says what was found at which pixel.
        """
        given = _channels_first(read_map(path), 3 if isinstance(self.task, Normals) else 1)
        values = torch.from_numpy(given.astype(np.float32))
        if self.void is not None:
            missing = (values == self.void).all(0) if values.ndim > 2 else values == self.void  # noqa: PLR2004
            values = values.masked_fill(missing, torch.nan)
        if isinstance(self.task, BinaryMap):
            values = self._yes(values)
        if self.scale is not None:
            values = values * self.scale
        elif isinstance(self.task, Depth) and given.dtype.kind in "iu":
            raise ValueError(
                f"holds whole numbers ({given.dtype}), whose unit is not known; name it, such as "
                f"`scale: {{{self.folder}: 0.001}}` for millimetres"
            )
        if isinstance(self.task, Normals) and self.resized:
            values = _unit(values)
        try:
            return self.task.check(values.unsqueeze(0))[0].to(self.dtype)
        except WrongPixelError as error:
            value = given[..., error.row, error.column].tolist()
            raise ValueError(
                f"is {error.found} ({value}) at row {error.row} and column {error.column}; "
                f"expected {error.expected}. If it marks pixels without a target, name it: `void: "
                f"{{{self.folder}: ...}}`"
            ) from None
        except ValueError:
            raise ValueError(
                f"is of shape {given.shape}; expected {self.task.kind} of pixels"
            ) from None

    def _yes(self, values: Tensor) -> Tensor:
        """Return 1 for 255, as editors of images write it."""
        yes = values == _YES
        if (yes.any() and (values == 1).any()) or self.void == _YES:
            return values  # then 255 is something else
        return values.masked_fill(yes, 1.0)


def read_map(path: Path) -> NDArray[Any]:
    """Read an array, or the numbers of an image of one channel.

    Raises:
        ValueError: If it is an image of colours, or an array of no numbers.
    """
    check_regular(path)
    if path.suffix.lower() == ".npy":
        found: NDArray[Any] = np.load(path, allow_pickle=False)
        if found.dtype.kind not in "biuf":
            raise ValueError(f"holds {found.dtype}; expected numbers")
        return found
    with open_image(path) as image:
        if image.mode == "P":
            raise ValueError(
                "has a palette: its numbers stand for colours; expected one channel of values. "
                "Save them as such: `Image.fromarray(np.asarray(Image.open(path)))`"
            )
        if not (image.mode in _GREY or image.mode.startswith("I;16")):
            raise ValueError(
                f"has the channels {image.mode}; expected one channel of values. Maps of several "
                "channels are read from .npy"
            )
        return np.asarray(image)


def read_image(path: Path, size: tuple[int, int]) -> Pixels:
    """Read an image, or an array of one, as ``(H, W, 3)`` uint8, resized and centre-cropped.

    Floats must be from 0 to 1; they are rounded to the 256 values that images have.

    Raises:
        ValueError: If it is not an image.
    """
    if path.suffix.lower() != ".npy":
        return decode(path, size)
    found = _channels_first(read_map(path), 3)
    if found.ndim != 3 or len(found) != 3:  # noqa: PLR2004 - dimensions, channels
        raise ValueError(f"is of shape {found.shape}; expected (H, W, 3)")
    if found.dtype != np.uint8:
        low, high = float(found.min()), float(found.max())
        if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):  # or they are not numbers
            raise ValueError(f"has values from {low:g} to {high:g}; expected 0 to 1, or uint8")
        found = (found.clip(0, 1) * 255).round().astype(np.uint8)
    pixels = np.ascontiguousarray(np.moveaxis(found, 0, -1))
    if pixels.shape[:2] == size:
        return pixels
    resized = ImageOps.fit(Image.fromarray(pixels), size[::-1], Image.Resampling.BICUBIC)
    return np.asarray(resized)


def image_size(path: Path) -> tuple[int, int]:
    """Return height and width of an image file or array, upright.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        if path.suffix.lower() == ".npy":
            check_regular(path)
            return _array_size(np.load(path, mmap_mode="r", allow_pickle=False).shape)
        with open_image(path) as image:
            turned = image.getexif().get(_ORIENTATION) in _TURNED
            return image.size if turned else (image.height, image.width)
    except Exception as error:
        raise _named(path, error) from error


def _array_size(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 3 or 3 not in (shape[0], shape[-1]):  # noqa: PLR2004 - dimensions, channels
        raise ValueError(f"is of shape {shape}; expected (H, W, 3)")
    height, width = shape[:2] if shape[-1] == 3 else shape[1:]  # noqa: PLR2004
    return int(height), int(width)


def read_sample(
    image: Path,
    maps: Mapping[str, Path],
    readers: Mapping[str, MapReader],
    size: tuple[int, int],
    *,
    resize: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Read an image with its maps.

    Args:
        image: The image.
        maps: Its maps by folder.
        readers: What reads them.
        size: Height and width that they are brought to.
        resize: Whether other sizes are; they are refused otherwise.

    Returns:
        ``(H, W, 3)`` uint8, and the maps by folder.

    Raises:
        DataError: If a file cannot be read or is wrong; names it.
    """
    found = image_size(image)
    if found != size and not resize:
        raise DataError(
            f"{image} has {found[0]}x{found[1]} pixels, the first training image "
            f"{size[0]}x{size[1]}; bring all to one size with `size: [height, width]`."
        )
    try:
        pixels = torch.from_numpy(np.array(read_image(image, size)))
    except Exception as error:
        raise _named(image, error) from error
    targets = {}
    for name, path in maps.items():
        try:
            target = readers[name].read(path)
        except Exception as error:
            raise _named(path, error) from error
        if target.shape[-2:] != found:
            high, wide = target.shape[-2:]
            raise DataError(
                f"{path} has {high}x{wide} pixels, its image {image.name} {found[0]}x{found[1]}; "
                "a map must have a value for each pixel."
            )
        targets[name] = fitted(target[None], *size, readers[name].task.resizes)[0]
    return pixels, targets


def _channels_first(given: NDArray[Any], channels: int) -> NDArray[Any]:
    """Return ``(H, W)`` for one channel, else ``(C, H, W)``, of either order of dimensions."""
    if given.dtype == np.bool_:
        given = given.astype(np.uint8)
    if given.ndim != 3:  # noqa: PLR2004 - dimensions of a map with channels
        return given
    if given.shape[-1] == channels:
        given = np.moveaxis(given, -1, 0)
    return given[0] if len(given) == channels == 1 else given


def _unit(values: Tensor) -> Tensor:
    """Bring vectors to length 1, unless they are something else."""
    length = values.norm(dim=0, keepdim=True)
    return torch.where(length <= _LONGEST, values / length, values)


def _named(path: Path, error: Exception) -> DataError:
    said = one_line(error).removeprefix(f"{path} ").rstrip(".")
    return DataError(f"{path} {said}.")
