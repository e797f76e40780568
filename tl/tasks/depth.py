"""Depth estimation: a distance for each pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from tl.tasks.base import Direction
from tl.tasks.map_pictures import Drawn, MapPictures
from tl.tasks.pictures import Pictures
from tl.tasks.pixels import DECODER, PixelMean, PixelTask

_LOSSES = ("l1", "berhu", "silog")
_CLOSE = 1.25
_SMALLEST = 1e-6  # a depth below it is not divided by


@dataclass(frozen=True, init=False)
class Depth(PixelTask):
    """A depth for each pixel, with absolute, relative and squared errors and threshold accuracy.

    Targets are ``(N, 1, H, W)`` or ``(N, H, W)``, above 0, NaN if missing. Scores are over all
    labelled pixels of the split: ``abs`` is the mean of ``|p - t|``, ``rel`` of ``|p - t| / t``,
    ``rmse`` the root of the mean of ``(p - t)^2``, and ``delta1`` the fraction with
    ``max(p / t, t / p) < 1.25`` (Eigen et al., 2014, arXiv:1406.2283).

    Args:
        name: Name in metrics (``val/<name>/abs``) and heads; letters, digits, ``_`` and ``-``.
        loss: ``l1``; ``berhu``, squared beyond a fifth of the batch's largest error (Laina et al.,
            2016, arXiv:1606.00373); or ``silog``, scale-invariant in the logarithm (Eigen et al.,
            2014, with their factor of 1/2), for which the head predicts the logarithm of the depth.
        decoder: Class path of the head, such as ``tl.tasks.decoders.DeepLab``.
        width: Channels within the head; ``None`` is the default of its class.
        source: Name of the data source that the task reads in a batch of several.
        target: Key of the targets in a source that has several.
        start: Depth that the head's output counts from, such as the mean depth of the training
            data: a new head then predicts that instead of 0. For ``silog``, 0 counts from a depth
            of 1.
        inverse: Whether targets are inverse depths, such as disparities: they are multiplied where
            an enlarged image divides depths.
        shares: Name of another task whose head this one uses, for instance in a second domain.
        trains: Whether the task trains; if not, it is only evaluated.

    Raises:
        ValueError: If the loss is unknown, or `start` is not a distance.
    """

    name: str
    loss_name: str
    decoder: str
    width: int | None
    source: str | None
    target: str | None
    start: float
    inverse: bool
    shares: str | None
    trains: bool
    kind: ClassVar[str] = "depth"
    score: ClassVar[str] = "abs"
    directions: ClassVar[Mapping[str, Direction]] = {
        **dict.fromkeys(("abs", "rel", "rmse"), "min"),
        "delta1": "max",
    }
    tallied: ClassVar[tuple[str, ...]] = ("abs",)
    columns: ClassVar[tuple[str, ...]] = ("mean_depth",)
    channels = 1
    expected = "depths above 0, NaN if missing, of shape (N, 1, H, W) or (N, H, W)"
    right_or_wrong = True  # off by a factor below 1.25 or not

    def __init__(
        self,
        name: str,
        loss: Literal["l1", "berhu", "silog"] = "l1",
        decoder: str = DECODER,
        width: int | None = None,
        source: str | None = None,
        target: str | None = None,
        start: float = 0.0,
        inverse: bool = False,
        shares: str | None = None,
        trains: bool = True,
    ) -> None:
        given: dict[str, Any] = {"name": name, "loss_name": loss, "source": source}
        given |= {"target": target, "decoder": decoder, "width": width}
        given |= {"start": float(start), "inverse": inverse, "shares": shares, "trains": trains}
        for field, value in given.items():
            object.__setattr__(self, field, value)
        super().__post_init__()
        if loss not in _LOSSES:
            raise ValueError(
                f"The `loss` of task {name!r} must be one of {', '.join(_LOSSES)}, got {loss!r}."
            )
        if not 0 <= self.start < math.inf:
            raise ValueError(
                f"The `start` of task {name!r} must be a distance of 0 or more, got {start}."
            )

    def record(self) -> dict[str, Any]:
        """Return the task in plain types; `start` and `inverse` are left out at their defaults."""
        found = super().record()
        usual = {"start": 0.0, "inverse": False}
        return {k: v for k, v in found.items() if k not in usual or v != usual[k]}

    @property
    def answers(self) -> str:
        """A depth, or its logarithm."""
        kind = "inverse depths" if self.inverse else "depths"
        kind = f"logarithms of {kind}" if self.loss_name == "silog" else kind
        return f"{kind} from {self.start:g}" if self.start else kind

    def settle(self, target: object, *, checked: bool = False) -> Tensor:
        """Return floats ``(N, 1, H, W)``, NaN if missing."""
        found = self._maps(target, 1).float()
        if not checked:
            plain = found[:, 0]
            self.refuse(plain.isinf(), "infinite")
            self.refuse(plain < 0, "below 0")
            self.refuse(plain == 0, "0, which is not a distance")
        return found

    def enlarged(self, target: Tensor, factor: Tensor) -> Tensor:
        """Return depths as things look when they are nearer: divided by the factor."""
        return target * factor if self.inverse else target / factor

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean over all labelled pixels of maps ``(N, 1, H, W)``."""
        known = ~target.isnan()
        count = known.sum()
        output = self._counted(output)
        if self.loss_name == "silog":
            error = torch.where(known, output - target.log(), 0.0)
            size = known.sum((1, 2, 3)).clamp(min=1)
            # images are weighted by their labelled pixels, so that batches add up to the split
            means = (error**2).sum((1, 2, 3)) - error.sum((1, 2, 3)) ** 2 / (2 * size)
            return means.sum() / count.clamp(min=1)
        error = torch.where(known, output - target, 0.0).abs()
        if self.loss_name == "berhu":
            edge = (error.detach().max() / 5).clamp(min=_SMALLEST)
            error = torch.where(error <= edge, error, (error**2 + edge**2) / (2 * edge))
        return error.sum() / count.clamp(min=1)

    def present(self, target: Tensor) -> Tensor:
        """Return how many pixels are labelled."""
        return (~target.isnan()).sum()

    def tally(self, output: Tensor, target: Tensor) -> list[Tensor]:
        """Return the sum of the absolute errors."""
        return [(self.answer(output) - target).abs().nansum()]

    def right(self, output: Tensor, target: Tensor) -> Tensor:
        """Return how many known depths are off by a factor below 1.25."""
        known = ~target.isnan()
        return _close(self.answer(output)[known], target[known]).sum()

    def scores(self) -> dict[str, Metric]:
        """Return absolute and relative error, root mean squared error and threshold accuracy."""
        return {
            "abs": PixelMean(absolute_error),
            "rel": PixelMean(relative_error),
            "rmse": PixelMean(squared_error, root=True),
            "delta1": PixelMean(is_close),
        }

    def observe(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        """Update a metric with the labelled pixels of a batch."""
        known = ~target.isnan()
        metric.update(self.answer(output)[known], target[known])

    def answer(self, output: Tensor) -> Tensor:
        """Return depths ``(N, 1, H, W)``."""
        counted = self._counted(output.float())
        return counted.exp() if self.loss_name == "silog" else counted

    def _counted(self, output: Tensor) -> Tensor:
        """Return depths or their logarithms, of outputs that count from `start`."""
        if not self.start:
            return output
        return output + (math.log(self.start) if self.loss_name == "silog" else self.start)

    def cells(self, answer: Tensor, names: Sequence[str] | None) -> list[dict[str, str]]:
        """Return the mean depth of each image."""
        return [{"mean_depth": f"{mean:.6g}"} for mean in answer.mean((1, 2, 3)).cpu().tolist()]

    def pictures(self, most: int) -> Pictures | None:
        """Return maps side by side."""
        return MapPictures(Drawn(_plain, _error, "absolute error"), self.answer, most)


def _plain(maps: Tensor) -> Tensor:
    """Return maps ``(N, 1, H, W)`` as ``(N, H, W)``."""
    return maps[:, 0]


def _error(answer: Tensor, target: Tensor) -> Tensor:
    """Return ``|p - t|`` ``(N, H, W)``, NaN without a target."""
    return (answer - target).abs()[:, 0]


def _close(output: Tensor, target: Tensor) -> Tensor:
    """Return which depths ``(M,)`` are off by a factor below 1.25."""
    ratio = output.clamp(min=_SMALLEST) / target
    return torch.maximum(ratio, 1 / ratio) < _CLOSE


# Of predicted and true depths of labelled pixels (M,)


def absolute_error(output: Tensor, target: Tensor) -> Tensor:
    """Return ``|p - t|``."""
    return (output.double() - target.double()).abs()


def relative_error(output: Tensor, target: Tensor) -> Tensor:
    """Return ``|p - t| / t``."""
    return (output.double() - target.double()).abs() / target.double()


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Return ``(p - t)^2``."""
    return (output.double() - target.double()) ** 2


def is_close(output: Tensor, target: Tensor) -> Tensor:
    """Return 1 where the depth is off by a factor below 1.25; a depth of 0 or less never is."""
    return _close(output, target).double()
