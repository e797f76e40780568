"""Binary segmentation: yes or no for each pixel, such as edges, saliency or shadows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric

from tl.tasks.base import Direction
from tl.tasks.class_targets import MISSING
from tl.tasks.map_pictures import Drawn, MapPictures
from tl.tasks.pictures import Pictures
from tl.tasks.pixels import DECODER, PixelSums, PixelTask


@dataclass(frozen=True)
class BinaryMap(PixelTask):
    """Yes or no for each pixel, such as edges or saliency, with F1 and IoU of the positives.

    Targets are ``(N, H, W)`` or ``(N, 1, H, W)``: 0 or 1, -1 or NaN if missing. The threshold is a
    probability of 0.5; F1 and IoU are over all labelled pixels of the split.

    Args:
        name: Name in metrics (``val/<name>/f1``) and heads; letters, digits, ``_`` and ``-``.
        pos_weight: Weight of positives in the binary cross-entropy, above 0. Edges are rare: the
            survey of Vandenhende et al. (2021, arXiv:2004.13379) weights them by 19 (0.95 / 0.05).
        decoder: Class path of the head, such as ``tl.tasks.decoders.DeepLab``.
        width: Channels within the head; ``None`` is the default of its class.
        source: Name of the data source that the task reads in a batch of several.
        target: Key of the targets in a source that has several.
        shares: Name of another task whose head this one uses, for instance in a second domain.
        trains: Whether the task trains; if not, it is only evaluated.

    Raises:
        ValueError: If the weight is not positive.
    """

    name: str
    pos_weight: float = 1.0
    decoder: str = DECODER
    width: int | None = None
    source: str | None = None
    target: str | None = None
    shares: str | None = None
    trains: bool = True
    kind: ClassVar[str] = "binary_map"
    score: ClassVar[str] = "f1"
    higher_is_better: ClassVar[bool] = True
    directions: ClassVar[Mapping[str, Direction]] = dict.fromkeys(("f1", "iou", "acc"), "max")
    tallied: ClassVar[tuple[str, ...]] = ("acc",)
    accuracy: ClassVar[str | None] = "acc"
    columns: ClassVar[tuple[str, ...]] = ("share",)
    answers = "yes or no for pixels"
    channels = 1
    expected = "0 or 1, -1 if missing, of shape (N, H, W) or (N, 1, H, W)"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.pos_weight < float("inf"):
            raise ValueError(
                f"The `pos_weight` of task {self.name!r} must be positive, got {self.pos_weight}."
            )

    def settle(self, target: object, *, checked: bool = False) -> Tensor:
        """Return floats ``(N, 1, H, W)``: 0, 1, or -1 if missing."""
        found = self._maps(target, 1).float().nan_to_num(nan=MISSING)
        if not checked:
            plain = found[:, 0]
            self.refuse((plain != 0) & (plain != 1) & (plain != MISSING), "neither 0 nor 1")
        return found

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy over all labelled pixels of maps ``(N, 1, H, W)``."""
        known = target != MISSING
        terms = functional.binary_cross_entropy_with_logits(
            output,
            target.clamp(min=0).to(output.dtype),  # which the loss takes
            pos_weight=output.new_tensor(self.pos_weight),
            reduction="none",
        )
        return torch.where(known, terms, 0.0).sum() / known.sum().clamp(min=1)

    def present(self, target: Tensor) -> Tensor:
        """Return how many pixels are labelled."""
        return (target != MISSING).sum()

    def tally(self, output: Tensor, target: Tensor) -> list[Tensor]:
        """Return the number of correctly classified pixels."""
        return [((output > 0) == target).sum()]

    def scores(self) -> dict[str, Metric]:
        """Return F1 and IoU of the positives, and pixel accuracy."""
        return {"f1": BinaryScore(f1), "iou": BinaryScore(iou), "acc": BinaryScore(accuracy)}

    def observe(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        """Update a metric with the labelled pixels of a batch."""
        known = target != MISSING
        metric.update(output[known] > 0, target[known] > 0)

    def answer(self, output: Tensor) -> Tensor:
        """Return probabilities ``(N, 1, H, W)``."""
        return output.float().sigmoid()

    def cells(self, answer: Tensor, names: Sequence[str] | None) -> list[dict[str, str]]:
        """Return the fraction of positives in each image."""
        shares = (answer > 0.5).float().mean((1, 2, 3))  # noqa: PLR2004 - the threshold
        return [{"share": f"{share:.4f}"} for share in shares.cpu().tolist()]

    def pictures(self, most: int) -> Pictures | None:
        """Return maps side by side."""
        return MapPictures(Drawn(_known, _error, "distance", most=1.0), self.answer, most)


def _known(maps: Tensor) -> Tensor:
    """Return maps ``(N, 1, H, W)`` as ``(N, H, W)``, NaN where there is none."""
    return maps[:, 0].masked_fill(maps[:, 0] == MISSING, torch.nan)


def _error(answer: Tensor, target: Tensor) -> Tensor:
    """Return the distance of probabilities to the truth ``(N, H, W)``, NaN without one."""
    return (answer[:, 0] - _known(target)).abs()


class BinaryScore(PixelSums):
    """A score of true and false positives and negatives; NaN where it is not defined.

    Args:
        score: Computes it from the number of true positives, false positives, false negatives and
            true negatives, scalars.
    """

    def __init__(self, score: Callable[..., Tensor]) -> None:
        super().__init__(4, torch.int64)
        self._score = score

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add predictions and truth of pixels ``(M,)``, both bool."""
        parts = (output & target, output & ~target, ~output & target, ~output & ~target)
        self.sums = self.sums + torch.stack([part.sum() for part in parts])

    def compute(self) -> Tensor:
        """Return the score, a scalar."""
        return self._score(*self.sums.double()).float()


def f1(tp: Tensor, fp: Tensor, fn: Tensor, _: Tensor) -> Tensor:
    """Return the harmonic mean of precision and recall."""
    return 2 * tp / (2 * tp + fp + fn)


def iou(tp: Tensor, fp: Tensor, fn: Tensor, _: Tensor) -> Tensor:
    """Return the intersection over union of the positives."""
    return tp / (tp + fp + fn)


def accuracy(tp: Tensor, fp: Tensor, fn: Tensor, tn: Tensor) -> Tensor:
    """Return the fraction of correctly classified pixels."""
    return (tp + tn) / (tp + fp + fn + tn)
