"""Scores of multi-label tasks whose labels may be unknown."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.classification import MultilabelAveragePrecision, MultilabelF1Score
from torchmetrics.functional.classification import multilabel_average_precision
from torchmetrics.utilities import dim_zero_cat

from tl.tasks.class_targets import MISSING


class MeanAveragePrecision(MultilabelAveragePrecision):
    """Average precision, averaged over the labels that are known for some sample.

    torchmetrics fails on a label without any known target.

    Args:
        num_labels: Number of labels.
    """

    def __init__(self, num_labels: int) -> None:
        super().__init__(num_labels, average="macro", ignore_index=MISSING)

    def compute(self) -> Tensor:  # type: ignore[override]  # as its base does
        """Return the mean, a scalar in [0, 1]; NaN if no label is known."""
        chances, target = dim_zero_cat(self.preds), dim_zero_cat(self.target)
        known = (target >= 0).any(0)
        if bool(known.all()):
            return super().compute()
        if not bool(known.any()):
            return torch.full((), torch.nan, device=target.device)
        return multilabel_average_precision(
            chances[:, known],
            target[:, known],
            int(known.sum()),
            ignore_index=MISSING,
            validate_args=False,  # which refuses a single label
        )


class MeanF1(MultilabelF1Score):
    """F1 score at a probability of 0.5, averaged over the labels that are known for some sample.

    Args:
        num_labels: Number of labels.
    """

    def __init__(self, num_labels: int) -> None:
        super().__init__(num_labels, average="macro", ignore_index=MISSING)

    def compute(self) -> Tensor:
        """Return the mean, a scalar in [0, 1]; NaN if no label is known."""
        tp, fp, tn, fn = map(dim_zero_cat, (self.tp, self.fp, self.tn, self.fn))
        known = tp + fp + tn + fn > 0
        if bool(known.all()):
            return super().compute()
        return (2 * tp / (2 * tp + fp + fn).clamp(min=1))[known].mean()
