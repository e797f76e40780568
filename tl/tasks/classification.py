"""Classification: one of several classes, or any number of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from tl.tasks.base import Direction, Task
from tl.tasks.class_pictures import ClassPictures
from tl.tasks.class_targets import (
    MISSING,
    check,
    class_numbers,
    settled,
    wrong_label,
)
from tl.tasks.heads import linear_head, vector_length
from tl.tasks.pictures import Pictures


@dataclass(frozen=True)
class Classification(Task):
    """Cross-entropy and accuracy: each sample has one class.

    Args:
        name: Name in metrics (``val/<name>/acc``) and heads; letters, digits, ``_`` and ``-``.
        num_classes: Number of classes, at least 2.
        source: Name of the data source that the task reads in a multi-source batch
            ``{source: (inputs, targets)}``; ``None`` if the batch has one source.
        target: Key of the labels in a source that has several (``{"fine": ..., "coarse": ...}``);
            ``None`` if the labels are one tensor.
        multi_label: Samples have any number of labels: binary cross-entropy of independent logits.
            Targets are ``(N, num_classes)`` of 0 and 1, -1 or NaN if unknown. Scores are the mean
            average precision and the F1 score at a probability of 0.5, both averaged over the
            labels that are known for some sample.
        class_weights: Weight of each class in the loss, as in ``torch.nn.CrossEntropyLoss``.
        pos_weight: Weight of the positive labels of each class of a `multi_label` task, as in
            ``torch.nn.BCEWithLogitsLoss``.
        shares: Name of another task whose head this one uses, for instance in a second domain.
        trains: Whether the task trains; if not, it is only evaluated.

    Raises:
        ValueError: If the name has other characters, there are fewer than 2 classes, weights are
            not one positive number per class, or a subclass is given `multi_label`.
    """

    name: str
    num_classes: int
    source: str | None = None
    target: str | None = None
    multi_label: bool = False
    class_weights: Sequence[float] | None = None
    pos_weight: Sequence[float] | None = None
    shares: str | None = None
    trains: bool = True
    kind: ClassVar[str] = "classification"
    score: ClassVar[str] = "acc"
    higher_is_better: ClassVar[bool] = True
    directions: ClassVar[Mapping[str, Direction]] = {"acc": "max", "map": "max", "f1": "max"}
    tallied: ClassVar[tuple[str, ...]] = ("acc",)
    accuracy: ClassVar[str | None] = "acc"
    smooths: ClassVar[bool] = True
    columns: ClassVar[tuple[str, ...]] = ("class", "class_name", "probability", "top5")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_classes < 2:  # noqa: PLR2004 - one class needs no classifier
            raise ValueError(
                f"Task {self.name!r} needs at least 2 classes, got {self.num_classes}."
            )
        from tl.tasks.multi_label import _MultiLabel  # noqa: PLC0415 - imports this

        if self.multi_label and not isinstance(self, _MultiLabel):
            raise ValueError(
                f"Task {self.name!r} is a {type(self).__name__}, whose loss and scores are for one "
                "class per sample; `multi_label` needs tl.tasks.Classification itself."
            )
        right, other = ("pos_weight", "class_weights")[:: 1 if self.multi_label else -1]
        if getattr(self, other) is not None:
            raise ValueError(
                f"Task {self.name!r} has {'several labels' if self.multi_label else 'one class'} "
                f"per sample; give it `{right}`, not `{other}`."
            )
        if (weights := getattr(self, right)) is None:
            return
        found = tuple(map(float, weights))
        object.__setattr__(self, right, found)
        if len(found) != self.num_classes or not all(0 < weight < float("inf") for weight in found):
            raise ValueError(
                f"`{right}` of task {self.name!r} must be {self.num_classes} positive numbers, one "
                f"for each class, got {list(found)}."
            )

    @classmethod
    def variant(cls, *given: Any, **named: Any) -> type[Task]:  # noqa: ANN401 - as in Task
        """Return the class that `multi_label` asks for."""
        from tl.tasks.multi_label import _MultiLabel  # noqa: PLC0415 - imports this

        multi = named.get("multi_label", given[4] if len(given) > 4 else False)  # noqa: PLR2004
        return _MultiLabel if cls is Classification and multi else cls

    def __init_subclass__(cls) -> None:
        """Let a subclass's own `loss` be the one that trains."""
        super().__init_subclass__()
        if "loss" in vars(cls) and "training_loss" not in vars(cls):
            cls.training_loss = _own_loss  # type: ignore[method-assign, assignment]

    def record(self) -> dict[str, Any]:
        """Return the task in plain types; unused options are left out."""
        used = {"name", "num_classes", "source", "target", "trains"}
        return {key: v for key, v in super().record().items() if v or key in used}

    @property
    def answers(self) -> str:
        """The number of classes."""
        return f"{self.num_classes} classes"

    def head(self, num_features: int | Sequence[int]) -> nn.Module:
        """Return a linear classifier."""
        return linear_head(vector_length(num_features), self.num_classes)

    def settle(self, target: object, *, checked: bool = False) -> Tensor:
        """Return class indices ``(N,)``, or probabilities ``(N, num_classes)``."""
        return settled(self, target, checked=checked)

    def check(self, target: object) -> Tensor:
        """Return targets as :meth:`settle` does, and refuse floats for class indices."""
        return check(self, target)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits ``(N, num_classes)``."""
        return Classification.training_loss(self, output, target, 0.0)

    def training_loss(self, output: Tensor, target: Tensor, label_smoothing: float) -> Tensor:
        """Return the cross-entropy with label smoothing (Szegedy et al., 2016, section 7)."""
        if output.shape[1:] != (self.num_classes,):
            raise ValueError(
                f"The head of task {self.name!r} returns shape {tuple(output.shape)}; expected "
                f"logits of shape (N, {self.num_classes})."
            )
        try:
            return cross_entropy(output, target, label_smoothing, self.class_weights)
        except IndexError as error:  # torch's, on a CPU: it does not name the task
            raise wrong_label(self.name, self.truth(target), self.num_classes) from error

    def truth(self, target: Tensor) -> Tensor:
        """Return class indices ``(N,)``, the most probable one of soft targets."""
        return class_numbers(target)

    def strata(self, target: Tensor) -> Tensor | None:
        """Return class indices ``(N,)``, the most probable one of soft targets."""
        return class_numbers(target)

    def present(self, target: Tensor) -> Tensor:
        """Return how many samples are labelled."""
        return (target != MISSING).sum()

    def tally(self, output: Tensor, target: Tensor) -> list[Tensor]:
        """Return how many samples are classified correctly."""
        return [(output.argmax(1) == target).sum()]

    def scores(self) -> dict[str, Metric]:
        """Return the accuracy."""
        return {"acc": MulticlassAccuracy(self.num_classes, average="micro", ignore_index=MISSING)}

    def answer(self, output: Tensor) -> Tensor:
        """Return class probabilities ``(N, num_classes)``."""
        return output.float().softmax(1)

    def cells(self, answer: Tensor, names: Sequence[str] | None) -> list[dict[str, str]]:
        """Return the most probable class, its name and probability, and the top five."""
        names = names or [*map(str, range(self.num_classes))]
        return [
            {
                "class": str(classes[0]),
                "class_name": names[classes[0]],
                "probability": f"{chances[0]:.6f}",
                "top5": "; ".join(
                    f"{names[c]} {p:.4f}" for c, p in zip(classes, chances, strict=True)
                ),
            }
            for chances, classes in zip(*best_five(answer), strict=True)
        ]

    def pictures(self, most: int) -> Pictures | None:
        """Return a collector of the confusion matrix and the most confident mistakes."""
        return ClassPictures(self.num_classes, most)


def _own_loss(
    task: Classification, output: Tensor, target: Tensor, label_smoothing: float
) -> Tensor:
    """Return the loss of a subclass; it does not know about label smoothing."""
    if label_smoothing:
        raise ValueError(
            f"Task {task.name!r} has a loss of its own, without label smoothing; set "
            "`label_smoothing` to 0, or override its `training_loss`."
        )
    return task.loss(output, target)


def best_five(answer: Tensor) -> tuple[list[list[float]], list[list[int]]]:
    """Return probabilities and indices of the most probable classes, the best first."""
    top = answer.float().cpu().topk(min(5, answer.shape[1]), dim=1)
    return top.values.tolist(), top.indices.tolist()


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    label_smoothing: float,
    class_weights: Sequence[float] | None = None,
) -> Tensor:
    """Return the mean over the labelled samples; 0, with a gradient of 0, if there are none.

    Args:
        logits: ``(N, num_classes)``.
        target: ``(N,)``, :data:`MISSING` if unlabelled; or probabilities ``(N, num_classes)``,
            NaN if unlabelled.
        label_smoothing: Fraction of the target spread over all classes, 0 to below 1.
        class_weights: Weight of each class; with class indices the mean is then weighted by the
            samples' classes, as in torch.
    """
    weight = None if class_weights is None else logits.new_tensor(class_weights)
    if target.ndim > 1:
        missing = target.isnan().any(1)
        known = target.masked_fill(missing[:, None], 0.0).to(logits.dtype)
        terms = functional.cross_entropy(
            logits, known, weight, label_smoothing=label_smoothing, reduction="none"
        )
        return terms.masked_fill(missing, 0.0).sum() / (~missing).sum().clamp(min=1)
    total = functional.cross_entropy(
        logits,
        target,
        weight,
        ignore_index=MISSING,
        label_smoothing=label_smoothing,
        reduction="sum",
    )
    present = target != MISSING
    if weight is None:
        return total / present.sum().clamp(min=1)
    weights = weight[target.clamp(min=0)] * present
    return total / weights.sum().clamp(min=torch.finfo(weight.dtype).tiny)
