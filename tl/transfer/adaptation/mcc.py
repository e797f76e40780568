"""MCC: predictions on unlabelled samples that confuse few classes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tl.batch import at_least_float32
from tl.tasks import Classification, Task
from tl.transfer.adaptation.base import Adaptation
from tl.transfer.penalties.base import Step


def class_confusion(logits: Tensor, temperature: float) -> Tensor:
    """Return the minimum class confusion of predictions, from 0 to nearly 1.

    Args:
        logits: Of unlabelled samples, ``(N, C)``.
        temperature: Divides the logits, above 0.
    """
    answers = torch.softmax(logits / temperature, dim=1)
    entropy = -(answers * answers.clamp(min=1e-12).log()).sum(1).detach()
    certainty = 1 + torch.exp(-entropy)
    weights = len(logits) * certainty / certainty.sum()
    confusion = (answers * weights[:, None]).T @ answers
    confusion = confusion / confusion.sum(1, keepdim=True).clamp(min=1e-12)
    return 1 - confusion.diagonal().mean()


class MCC(Adaptation):
    """Minimise the confusion between classes in predictions on unlabelled samples.

    ``1/C sum_{i != j} K_ij``, where ``K`` is the correlation of the classes' probabilities over the
    batch, samples weighted by ``1 + exp(-entropy)`` and rows normalised to 1 (Jin et al., 2020,
    arXiv:1912.03699, equations 2 to 6). No gradient flows through the weights, as in the authors'
    code. Batches need several samples per class.

    Args:
        weight: Weight relative to the ordinary loss, 0 or more; the authors' is 1.
        temperature: Divides the logits, above 0; the paper's is 2.5.
        task: Task whose classes may be confused, if there are several.

    Raises:
        ValueError: If a number is out of range; when the model is built, without an unlabelled
            source, or if the task is not a classification of one class per sample on vectors.
    """

    def __init__(
        self, weight: float = 1.0, temperature: float = 2.5, task: str | None = None
    ) -> None:
        super().__init__(weight)
        if not 0 < temperature < math.inf:
            raise ValueError(f"`temperature` must be above 0 and finite, got {temperature}.")
        self.temperature, self.task = temperature, task
        self._chosen = ""

    def check(self, tasks: Mapping[str, Task]) -> None:
        """Also find the task."""
        super().check(tasks)
        suits = [
            name
            for name, task in tasks.items()
            if task.trains and isinstance(task, Classification) and not task.multi_label
            if task.reads == "vector" and task.shares is None
        ]
        found = [name for name in suits if self.task in (None, name)]
        if len(found) != 1:
            said = f", got {self.task!r}" if self.task is not None else ""
            raise ValueError(
                "MCC works on one classification with one class per sample; set `task` to one of "
                f"{', '.join(suits) or 'them (the run has none)'}{said}."
            )
        self._chosen = found[0]

    def between(self, source: Tensor, target: Tensor, step: Step) -> Tensor:
        """Return the confusion on the unlabelled samples."""
        head: nn.Module = step.heads[self._chosen]
        logits = at_least_float32(head(target.to(next(head.parameters()).dtype)))
        return class_confusion(logits, self.temperature)
