"""Learning without forgetting: preserve the source's predictions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tl.batch import at_least_float32
from tl.transfer.network import SourceHead, SourceNetwork
from tl.transfer.penalties.base import Penalty, Start, Step, require_checkpoint
from tl.transfer.penalties.distillation import soft_divergence


class LwF(Penalty):
    """Keep the source's head, and its predictions on the target's images.

    ``weight * KL(softmax(y_o / T) || softmax(y / T))`` between the predictions ``y_o`` of the
    original source and ``y`` of its head on the current features (Li & Hoiem, 2016,
    arXiv:1606.09282, equations 2 and 3, there as a cross-entropy, which differs by a constant). The
    source's head keeps training with everything else, in its own optimizer groups; it and the
    original source are saved with the model, and no source data are needed. The paper first trains
    the new head alone, which is ``tl.transfer.LPFT``. The source predicts each augmented image,
    instead of each image once at the start. Where batch norm follows the target (`bn="train"`), the
    two predictions differ slightly from the first step on. The kept head is not a stage: it trains
    from the first step, even while a strategy freezes the backbone, whereas the paper's warm-up
    freezes it. As in the authors' code (lizhitwo/LearningWithoutForgetting,
    ``vl_nnsoftmaxdiff.m``), no factor ``T^2`` compensates for the temperature.

    Both defaults are the paper's. The authors' code also tries a `weight` of 0.3, 3 and 10, and
    adds dropout to the kept head, which is omitted here.

    Args:
        temperature: ``T``, above 0. The paper's 2 is from a grid search on held-out data (section
            3); the authors' code takes it as an option.
        weight: ``lambda_o``, 0 or more; the paper's and the code's value.
        source_task: Source task whose head to keep, if there are several.

    Raises:
        ValueError: If a number is out of range; at the run's start, without a source checkpoint.
    """

    def __init__(
        self, temperature: float = 2.0, weight: float = 1.0, source_task: str | None = None
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"`temperature` must be positive, got {temperature}.")
        if weight < 0:
            raise ValueError(f"`weight` must be 0 or more, got {weight}.")
        self.temperature = temperature
        self.weight = weight
        self.source_task = source_task
        self.network: SourceNetwork | None = None
        self.head = SourceHead(trains=True)

    def attach(self, backbone: nn.Module, heads: nn.Module) -> None:
        """Allocate the original source."""
        self.network = SourceNetwork(backbone)

    def prepare(self, start: Start) -> None:
        """Load the source."""
        path = require_checkpoint(self, start)
        if self.network is not None:
            self.head.set(self.network.load(path, self.source_task, start.rename))

    def forward(self, step: Step) -> Tensor:
        """Return the term over all images of the batch, from all sources together."""
        if self.network is None:
            raise ValueError("LwF has no source network; it must be attached to a model first.")
        before = torch.cat([self.network(images) for images in step.images.values()])
        now = self.head(torch.cat([step.features[source] for source in step.images]))
        return self.weight * soft_divergence(at_least_float32(now), before, self.temperature)
