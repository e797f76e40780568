"""Prototypical networks: each sample should lie nearest to the mean of its class's supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from tl.tasks.base import Direction, Task
from tl.tasks.class_targets import MISSING
from tl.tasks.heads import vector_length


def supports_and_queries(target: Tensor, shots: int) -> tuple[Tensor, Tensor]:
    """Return which samples of a batch are supports, and which are queries.

    The first `shots` samples of each class are its supports, the others queries.

    Args:
        target: Classes ``(N,)`` int64, -1 without one.
        shots: Supports per class.

    Returns:
        Two masks ``(N,)``; a sample without a class is in neither.
    """
    same = target[:, None] == target[None, :]
    before = same.tril(-1).sum(1)
    known = target != MISSING
    return known & (before < shots), known & (before >= shots)


def prototype_logits(features: Tensor, target: Tensor, shots: int) -> tuple[Tensor, Tensor]:
    """Return minus the squared Euclidean distances to the means of the supports of each class.

    Column ``j`` is the class of sample ``j`` where that is the first of its class in the batch;
    other columns are so low that they have no probability (Snell et al., 2017, arXiv:1703.05175,
    equations 1 and 2).

    Args:
        features: ``(N, D)``.
        target: Classes ``(N,)`` int64, -1 without one.
        shots: Supports per class.

    Returns:
        Logits ``(N, N)``, and the column of each sample's class ``(N,)``.
    """
    features = features.float()
    supports, _ = supports_and_queries(target, shots)
    same = target[:, None] == target[None, :]
    with torch.autocast(features.device.type, enabled=False):  # differences of large numbers
        members = (same & supports[None, :]).float()
        means = members @ features / members.sum(1, keepdim=True).clamp(min=1)
        squares = features.square().sum(1)[:, None] + means.square().sum(1)[None, :]
        logits = 2 * features @ means.T - squares
    first = (same.tril(-1).sum(1) == 0) & (target != MISSING)
    column = same.int().argmax(1)
    return logits.masked_fill(~first[None, :], torch.finfo(logits.dtype).min), column


@dataclass(frozen=True)
class Prototypes(Task):
    """Few-shot training by episodes (Snell et al., 2017, arXiv:1703.05175).

    Of each class in a batch the first `shots` samples are its supports; the loss is the negative
    log-likelihood of the classes of the others, under the softmax of minus the squared distances to
    the supports' means. Classes of a batch are told apart, whatever their numbers mean, so that
    validation may be on other classes. There is no head: what `tl fewshot` measures is trained. A
    :class:`tl.data.CifarFewShotDataModule` gives such batches.

    Args:
        name: Name in metrics; letters, digits, ``_`` and ``-``.
        shots: Supports of each class in a batch, at least 1.
        source: Name of the data source that the task reads in a batch of several.
        target: Key of the classes in a source that has several targets.
        shares: Name of another task whose head this one uses.
        trains: Whether the task trains; if not, it is only evaluated.

    Raises:
        ValueError: If `shots` is less than 1.
    """

    name: str
    shots: int = 5
    source: str | None = None
    target: str | None = None
    shares: str | None = None
    trains: bool = True
    kind: ClassVar[str] = "prototypes"
    counts_samples: ClassVar[bool] = False
    score: ClassVar[str] = "acc"
    higher_is_better: ClassVar[bool] = True
    directions: ClassVar[Mapping[str, Direction]] = {"acc": "max"}
    tallied: ClassVar[tuple[str, ...]] = ("acc",)
    accuracy: ClassVar[str | None] = "acc"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shots < 1:
            raise ValueError(f"`shots` of task {self.name!r} must be 1 or more, got {self.shots}.")

    @property
    def answers(self) -> str:
        """Classes by so many supports."""
        return f"classes by the means of {self.shots} supports"

    def head(self, num_features: int | Sequence[int]) -> nn.Module:
        """Return the identity: distances are those of the features."""
        vector_length(num_features)
        return nn.Identity()

    def settle(self, target: object, *, checked: bool = False) -> Tensor:
        """Return class numbers ``(N,)`` int64, -1 without one.

        Raises:
            ValueError: If they are not whole numbers, one per sample.
        """
        del checked  # neither check reads a value
        given = self.tensor_of(target, "one class number per sample", lambda s: len(s) == 1)
        if given.is_floating_point() or given.dtype == torch.bool:
            raise ValueError(
                f"The targets of task {self.name!r} are {given.dtype}; expected whole numbers, one "
                "class per sample."
            )
        return given.long()

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean negative log-likelihood of the queries of features ``(N, D)``."""
        logits, column = prototype_logits(output, target, self.shots)
        _, queries = supports_and_queries(target, self.shots)
        terms = -logits.log_softmax(1).gather(1, column[:, None])[:, 0]
        return terms.where(queries, 0.0).sum() / queries.sum().clamp(min=1)

    def present(self, target: Tensor) -> Tensor:
        """Return how many queries there are."""
        return supports_and_queries(target, self.shots)[1].sum()

    def strata(self, target: Tensor) -> Tensor | None:
        """Return the classes."""
        return target

    def tally(self, output: Tensor, target: Tensor) -> list[Tensor]:
        """Return how many queries are nearest to the mean of their own class."""
        logits, column = prototype_logits(output, target, self.shots)
        _, queries = supports_and_queries(target, self.shots)
        return [((logits.argmax(1) == column) & queries).sum()]

    def scores(self) -> dict[str, Metric]:
        """Return the accuracy of queries."""
        return {"acc": MeanMetric()}

    def observe(self, metric: Metric, output: Tensor, target: Tensor) -> None:
        """Update the accuracy with an episode."""
        count = self.present(target)
        metric.update(self.right(output, target) / count.clamp(min=1), count)

    def answer(self, output: Tensor) -> Tensor:
        """Refuse to answer: without supports there are no classes.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"Task {self.name!r} tells classes by supports, and single samples have none; measure "
            "the network by `tl fewshot`, or take its features with `tl.load(...).embed(...)`."
        )
