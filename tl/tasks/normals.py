"""Surface normals: the direction in which the surface faces at each pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric

from tl.tasks.base import Direction
from tl.tasks.map_pictures import Drawn, MapPictures
from tl.tasks.palette import direction_colours
from tl.tasks.pictures import Pictures
from tl.tasks.pixels import DECODER, PixelMean, PixelSums, PixelTask

_TOLERANCE = 0.02  # of the length: normals from 8-bit images deviate by this much
_LEFT_RIGHT = -1
_BIN = 0.001  # degrees
_RIGHT = 11.25  # degrees
_UNDER = {"under_11": _RIGHT, "under_22": 22.5, "under_30": 30.0}  # degrees


@dataclass(frozen=True)
class Normals(PixelTask):
    """A unit vector for each pixel, scored by its angle to the true one.

    Targets are ``(N, 3, H, W)``, x to the right, of length 1, NaN if missing. The loss is
    ``1 - cos``; the head's vectors are normalised in loss, scores and predictions. Scores are over
    all labelled pixels of the split, in degrees: ``mean``, ``median`` (to 0.001 degrees) and the
    fractions under 11.25, 22.5 and 30 degrees.

    Args:
        name: Name in metrics (``val/<name>/mean``) and heads; letters, digits, ``_`` and ``-``.
        decoder: Class path of the head, such as ``tl.tasks.decoders.DeepLab``.
        width: Channels within the head; ``None`` is the default of its class.
        source: Name of the data source that the task reads in a batch of several.
        target: Key of the targets in a source that has several.
        shares: Name of another task whose head this one uses, for instance in a second domain.
        trains: Whether the task trains; if not, it is only evaluated.
    """

    name: str
    decoder: str = DECODER
    width: int | None = None
    source: str | None = None
    target: str | None = None
    shares: str | None = None
    trains: bool = True
    kind: ClassVar[str] = "normals"
    score: ClassVar[str] = "mean"
    directions: ClassVar[Mapping[str, Direction]] = {
        **dict.fromkeys(("mean", "median"), "min"),
        **dict.fromkeys(_UNDER, "max"),
    }
    tallied: ClassVar[tuple[str, ...]] = ("mean",)
    columns: ClassVar[tuple[str, ...]] = ("mean_normal",)
    answers = "normals"
    channels = 3
    expected = "vectors of length 1, NaN if missing, of shape (N, 3, H, W)"
    right_or_wrong = True  # within 11.25 degrees or not

    def settle(self, target: object, *, checked: bool = False) -> Tensor:
        """Return floats ``(N, 3, H, W)``, NaN if missing."""
        found = self._maps(target, 3).float()
        if not checked:
            length = found.norm(dim=1)  # NaN where any part is
            self.refuse((length - 1).abs() > _TOLERANCE, "a vector of another length than 1")
        return found

    def flipped(self, target: Tensor, dim: int) -> Tensor:
        """Return the normals of the flipped scene: the component along the axis changes sign."""
        signs = target.new_ones(3)
        signs[0 if dim == _LEFT_RIGHT else 1] = -1
        return target * signs.view(3, 1, 1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean of ``1 - cos`` over all labelled pixels of maps ``(N, 3, H, W)``."""
        known = ~target.isnan().any(1)
        filled = torch.where(known.unsqueeze(1), target, 0.0)
        cosine = functional.cosine_similarity(output, filled, dim=1)
        return torch.where(known, 1 - cosine, 0.0).sum() / known.sum().clamp(min=1)

    def present(self, target: Tensor) -> Tensor:
        """Return how many pixels are labelled."""
        return (~target.isnan().any(1)).sum()

    def tally(self, output: Tensor, target: Tensor) -> list[Tensor]:
        """Return the sum of the angles."""
        return [angles(output, target).sum()]

    def right(self, output: Tensor, target: Tensor) -> Tensor:
        """Return how many normals are within 11.25 degrees."""
        return (angles(output, target) < _RIGHT).sum()

    def scores(self) -> dict[str, Metric]:
        """Return mean and median angle, and the fractions under three angles."""
        return {
            "mean": PixelMean(),
            "median": MedianAngle(),
            **{name: PixelMean(partial(is_under, limit=limit)) for name, limit in _UNDER.items()},
        }

    def observe(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        """Update a metric with the angles of a batch."""
        metric.update(angles(output, target))

    def answer(self, output: Tensor) -> Tensor:
        """Return unit vectors ``(N, 3, H, W)``."""
        return functional.normalize(output.float(), dim=1)

    def cells(self, answer: Tensor, names: Sequence[str] | None) -> list[dict[str, str]]:
        """Return the mean vector of each image."""
        rows = answer.mean((2, 3)).cpu().tolist()
        return [{"mean_normal": "; ".join(f"{v:.4f}" for v in row)} for row in rows]

    def pictures(self, most: int) -> Pictures | None:
        """Return maps side by side, with x, y and z as red, green and blue."""
        drawn = Drawn(direction_colours, _angle_maps, "angle, degrees")
        return MapPictures(drawn, self.answer, most)


def _angle_maps(answer: Tensor, target: Tensor) -> Tensor:
    """Return angles ``(N, H, W)``, NaN without a target."""
    known = ~target.isnan().any(1)
    found = answer.new_full(known.shape, math.nan, dtype=torch.float64)
    found[known] = angles(answer, target)
    return found


def angles(output: Tensor, target: Tensor) -> Tensor:
    """Return the angles in degrees between vectors, at all labelled pixels.

    Computed from sine and cosine, because an arc cosine alone is inaccurate for small angles.

    Args:
        output: ``(N, 3, H, W)``, of any length.
        target: ``(N, 3, H, W)``, NaN if missing.

    Returns:
        ``(M,)``, in double precision.
    """
    known = ~target.isnan().any(1)
    a, b = (each.movedim(1, -1)[known].double() for each in (output, target))
    return torch.atan2(torch.linalg.cross(a, b).norm(dim=1), (a * b).sum(1)) * (180 / math.pi)


def is_under(values: Tensor, limit: float) -> Tensor:
    """Return 1 where an angle ``(M,)`` is below a limit in degrees, else 0."""
    return (values < limit).double()


class MedianAngle(PixelSums):
    """Median angle from counts in bins of 0.001 degrees, which add up exactly over processes."""

    def __init__(self) -> None:
        super().__init__(round(180 / _BIN) + 1, torch.int64)

    def update(self, values: Tensor) -> None:
        """Add angles ``(M,)``."""
        bins = (values[~values.isnan()] / _BIN).round().long()
        self.sums = self.sums + torch.bincount(bins, minlength=len(self.sums))

    def compute(self) -> Tensor:
        """Return the lower median, a scalar; NaN without any pixel."""
        total = self.sums.cumsum(0)
        count = total[-1]
        if not count:
            return torch.full((), math.nan, device=total.device)
        found = torch.searchsorted(total, (count + 1) // 2)
        return found.float() * _BIN
