"""Transfer: train a target task from a source's weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from tl.batch import Inputs
from tl.modules.features import Features
from tl.modules.hooks import TrainerHooks
from tl.modules.hyperparameters import keep_hyperparameters
from tl.tasks import Task, as_task


class TransferModule(TrainerHooks):
    """Train one task, from scratch or from the weights of a source.

    ``theta_t* = argmin L_t`` from ``theta_s*``: with `init_from` the backbone starts from the
    source's weights with a new head, and everything trains.

    Args:
        backbone: Inputs, such as images ``(N, C, H, W)``, to features ``(N, num_features)``: any
            module with an integer attribute ``num_features``.
        task: What to predict, a task or its fields. The command line sets it from the data.
        **shared: As for :class:`SharedBackboneModule`.

    Raises:
        ValueError: If the backbone lacks ``num_features`` or an argument is out of range.
    """

    def __init__(
        self,
        backbone: nn.Module,
        task: Task | dict[str, Any] | None,
        **shared: Any,  # noqa: ANN401 - each has its type there
    ) -> None:
        if task is None:
            raise ValueError(
                "There is no single `task`: the data have several. Choose one kind of labels, such "
                "as `targets: fine`, or train them together in a MultiTaskModule."
            )
        super().__init__(backbone, [as_task(task)], **shared)
        self.task = next(iter(self.tasks.values()))
        keep_hyperparameters(self, inspect.currentframe())

    def forward(self, images: Inputs) -> Tensor:
        """Return the output of the head, such as logits ``(N, num_classes)``.

        Args:
            images: Normalised inputs, such as images ``(N, C, H, W)``.
        """
        self.source.need()
        return self.output(self.task.name, self.reader(self.backbone, images))

    def features(self, images: Mapping[str | None, Inputs]) -> dict[str | None, Features]:
        """Return what the head reads; there is one source."""
        return {source: self.reader(self.backbone, part) for source, part in images.items()}

    def metric(self, split: str, task: str, what: str) -> str:
        """Return the name that a value is logged under: ``val/acc``."""
        return f"{split}/{what}"
