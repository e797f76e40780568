"""Any number of labels per sample: independent logits with binary cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.classification import MultilabelAveragePrecision, MultilabelF1Score
from torchmetrics.functional.classification import multilabel_average_precision
from torchmetrics.utilities import dim_zero_cat

from tl.batch import at_least_float32
from tl.counting import counted
from tl.tasks.class_pictures import LabelPictures
from tl.tasks.class_targets import MISSING, settled_labels
from tl.tasks.classification import Classification
from tl.tasks.pictures import Pictures


@dataclass(frozen=True)
class _MultiLabel(Classification):
    """What ``Classification(..., multi_label=True)`` is; checkpoints call both one kind."""

    score: ClassVar[str] = "map"
    tallied: ClassVar[tuple[str, ...]] = ()
    accuracy: ClassVar[str | None] = None
    right_or_wrong = True  # each label is

    @property
    def answers(self) -> str:
        """The number of labels."""
        return counted(self.num_classes, "label")

    def settle(self, target: object, *, checked: bool = False) -> Tensor:
        """Return floats ``(N, num_classes)``, NaN if a label is unknown."""
        return settled_labels(self, target, checked=checked)

    def check(self, target: object) -> Tensor:
        """Return targets as :meth:`settle` does."""
        return self.settle(target)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean binary cross-entropy over all known labels."""
        return _MultiLabel.training_loss(self, output, target, 0.0)

    def training_loss(self, output: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        """Return the mean binary cross-entropy over all known labels.

        With label smoothing a target ``y`` is ``(1 - s) y + s / 2``.
        """
        missing = target.isnan()
        known = target.masked_fill(missing, 0.0).to(output.dtype)  # which the loss takes
        if label_smoothing:
            known = known * (1 - label_smoothing) + label_smoothing / 2
        weight = None if self.pos_weight is None else output.new_tensor(self.pos_weight)
        terms = functional.binary_cross_entropy_with_logits(
            output, known, pos_weight=weight, reduction="none"
        )
        return terms.masked_fill(missing, 0.0).sum() / (~missing).sum().clamp(min=1)

    def truth(self, target: Tensor) -> Tensor:
        """Return 0 and 1 as int64 ``(N, num_classes)``, ``MISSING`` if unknown."""
        return torch.where(target.isnan(), MISSING, target).long()

    def labelled(self, target: Tensor) -> Tensor:
        """Return how many samples have a known label."""
        return (target != MISSING).any(1).sum()

    def strata(self, target: Tensor) -> Tensor | None:
        """Return ``None``: a sample may have several labels."""
        return None

    def tally(self, output: Tensor, target: Tensor) -> list[Tensor]:
        """Return an empty list: these scores are not sums over samples."""
        return []

    def right(self, output: Tensor, target: Tensor) -> Tensor:
        """Return how many of the known labels are on the right side of one half."""
        return ((output > 0) == (target == 1))[target != MISSING].sum()

    def scores(self) -> dict[str, Metric]:
        """Return mean average precision and F1."""
        return {"map": MeanAveragePrecision(self.num_classes), "f1": MeanF1(self.num_classes)}

    def observe(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        """Update a metric with probabilities ``(N, num_classes)``.

        torchmetrics takes logits for probabilities in a batch whose values all lie in [0, 1].
        """
        metric.update(at_least_float32(output).sigmoid(), target)

    def answer(self, output: Tensor) -> Tensor:
        """Return the probability of each label ``(N, num_classes)``."""
        return output.float().sigmoid()

    def cells(self, answer: Tensor, names: Sequence[str] | None) -> list[dict[str, str]]:
        """Return the labels above 0.5, separated by semicolons, and the top five."""
        names = names or [*map(str, range(self.num_classes))]
        rows = super().cells(answer, names)
        for row, chances in zip(rows, answer.tolist(), strict=True):
            found = [number for number, chance in enumerate(chances) if chance > 0.5]  # noqa: PLR2004
            row["class"] = "; ".join(map(str, found))
            row["class_name"] = "; ".join(names[number] for number in found)
        return rows

    def pictures(self, most: int) -> Pictures | None:
        """Return a collector of each label's scores and the samples with the worst labels."""
        return LabelPictures(self.num_classes, most)


class MeanAveragePrecision(MultilabelAveragePrecision):
    """Average precision, averaged over the labels with a positive sample; of others it has none.

    torchmetrics counts those as 0.

    Args:
        num_labels: Number of labels.
    """

    def __init__(self, num_labels: int) -> None:
        super().__init__(num_labels, average="macro", ignore_index=MISSING)

    def compute(self) -> Tensor:  # type: ignore[override]  # as its base does
        """Return the mean, a scalar in [0, 1]; NaN without a positive sample."""
        chances, target = dim_zero_cat(self.preds), dim_zero_cat(self.target)
        there = (target == 1).any(0)
        if not bool(there.any()):
            return torch.full((), torch.nan, device=target.device)
        return multilabel_average_precision(
            chances[:, there],
            target[:, there],
            int(there.sum()),
            ignore_index=MISSING,
            validate_args=False,  # which refuses a single label
        )


class MeanF1(MultilabelF1Score):
    """F1 score at a probability of 0.5, averaged over the labels that samples have or are given.

    torchmetrics counts the others as 0.

    Args:
        num_labels: Number of labels.
    """

    def __init__(self, num_labels: int) -> None:
        super().__init__(num_labels, average="none", ignore_index=MISSING)

    def compute(self) -> Tensor:
        """Return the mean, a scalar in [0, 1]; NaN without such a label."""
        tp, fp, fn = map(dim_zero_cat, (self.tp, self.fp, self.fn))
        return super().compute()[tp + fp + fn > 0].mean()
