"""A shift by its name and severity."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from tl.data.images.resident import mixed_seed
from tl.data.options import check_options
from tl.data.shifts import blurs, colours, noises, warps
from tl.data.shifts.draws import ImageDraws
from tl.data.shifts.fog import fog

SEVERITIES = (1, 2, 3, 4, 5)
#: Shifts without random numbers.
FIXED: dict[str, Callable[[Tensor, int], Tensor]] = {
    each.__name__: each
    for each in (
        *(blurs.gaussian_blur, blurs.defocus_blur, blurs.zoom_blur, blurs.sketch),
        *(colours.contrast, colours.brightness, colours.saturate, colours.grey),
        *(colours.colour_rotation, warps.pixelate, warps.jpeg),
    )
}
#: Shifts that draw random numbers for each image.
RANDOM: dict[str, Callable[[Tensor, int, ImageDraws], Tensor]] = {
    each.__name__: each
    for each in (
        *(noises.gaussian_noise, noises.shot_noise, noises.impulse_noise, noises.speckle_noise),
        *(blurs.motion_blur, fog, warps.elastic),
    )
}
#: Shifts by family.
FAMILIES = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    "blur": ("gaussian_blur", "defocus_blur", "zoom_blur", "motion_blur"),
    "colour": ("contrast", "brightness", "saturate", "fog"),
    "digital": ("pixelate", "elastic", "jpeg"),
    "style": ("grey", "colour_rotation", "sketch"),
}
#: All shifts, family by family.
SHIFTS = tuple(name for names in FAMILIES.values() for name in names)
_VALUES_AT_ONCE = 2**22  # 1,365 images of 32x32


@dataclass(frozen=True)
class Shift:
    """Images as another camera, another weather or another style would show them.

    The noises, blurs, ``contrast``, ``brightness``, ``saturate``, ``fog``, ``pixelate``,
    ``elastic`` and ``jpeg`` follow CIFAR-10-C (Hendrycks & Dietterich, 2019, arXiv:1903.12261) with
    the constants of its script for 32x32 pixels; ``grey``, ``colour_rotation`` and ``sketch`` are
    ours. Results differ from the published files: random numbers are others, and values are
    rounded where the script cuts off.

    Args:
        name: Name of the shift.
        severity: From 1 to 5.
        seed: Seed of its random numbers. It is separate from the run's, so that runs with different
            seeds see the same images.

    Raises:
        ValueError: If there is no such shift, or the severity is not 1, 2, 3, 4 or 5.
    """

    name: str
    severity: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self)
        check_name(self.name)
        check_severity(self.severity)

    @property
    def label(self) -> str:
        """Name and severity, and the seed unless it is 0: ``fog-3``."""
        return f"{self.name}-{self.severity}" + (f"-seed{self.seed}" if self.seed else "")

    @property
    def moves_pixels(self) -> bool:
        """Whether pixels lie elsewhere afterwards, so that targets on them would have to move."""
        return self.name == "elastic"

    def record(self) -> dict[str, Any]:
        """Return the shift in plain types."""
        return asdict(self)

    def __call__(self, images: Tensor, keys: Sequence[int], split: str = "") -> Tensor:
        """Shift images, batch by batch.

        Args:
            images: ``(N, H, W, 3)`` uint8.
            keys: A number for each image, which selects its random numbers.
            split: Name of the split, which selects them too.

        Returns:
            ``(N, H, W, 3)`` uint8.
        """
        found = torch.empty_like(images)
        per_image = max(1, images[:1].numel())
        size = max(1, _VALUES_AT_ONCE // per_image)
        for first in range(0, len(images), size):
            part = images[first : first + size].float() / 255
            if self.name in FIXED:
                shifted = FIXED[self.name](part, self.severity)
            else:
                seeded = (self.seed, self.name, self.severity, split)
                seeds = [mixed_seed("shift", *seeded, key) for key in keys[first : first + size]]
                shifted = RANDOM[self.name](part, self.severity, ImageDraws(seeds))
            found[first : first + size] = (shifted.clamp(0, 1) * 255).round().byte()
        return found


def check_name(name: str) -> None:
    """Refuse a name that is not a shift's.

    Raises:
        ValueError: If there is no such shift; lists them.
    """
    if name not in SHIFTS:
        close = difflib.get_close_matches(name, SHIFTS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"There is no shift {name!r}; choose {', '.join(SHIFTS)}.{hint}")


def check_severity(severity: int) -> None:
    """Refuse a severity outside 1 to 5.

    Raises:
        ValueError: If it is.
    """
    if severity not in SEVERITIES:
        raise ValueError(f"The `severity` of a shift must be 1, 2, 3, 4 or 5, got {severity!r}.")
