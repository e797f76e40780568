"""Elastic weight consolidation: protect the weights that the source needs."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from tl.batch import Inputs, at_least_float32, on_each, size_of
from tl.transfer.network import SourceNetwork
from tl.transfer.penalties.base import Penalty, Start, StartWeights, Step, require_checkpoint


def fisher_diagonal(
    backbone: nn.Module,
    head: nn.Module,
    batches: Iterable[Inputs],
    images: int,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Estimate the diagonal of the Fisher information of a backbone's parameters.

    ``F_i = E_x E_{y ~ p(y | x)} (d log p(y | x) / d theta_i)^2``, with one label per image sampled
    from the network's own prediction: the true Fisher information, not the "empirical" one on given
    labels (Kunstner et al., 2019, arXiv:1905.12558).

    Args:
        backbone: Images ``(N, 3, H, W)`` to features; run in evaluation mode.
        head: Features to logits.
        batches: Images.
        images: Number of images to use, 1 or more.
        seed: Seed of the sampled labels.

    Returns:
        Values, 0 or more, by parameter name.

    Raises:
        ValueError: If there is no image.
    """
    parameters = dict(backbone.named_parameters())
    needed = [p.requires_grad for p in parameters.values()]
    modes = [(module, module.training) for module in (*backbone.modules(), *head.modules())]
    generator = torch.Generator().manual_seed(seed)
    sums = {name: torch.zeros_like(p, dtype=torch.float32) for name, p in parameters.items()}
    count = 0
    backbone.eval()
    head.eval()
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    try:
        for batch in batches:
            for row in range(min(size_of(batch), images - count)):
                sample = on_each(itemgetter(slice(row, row + 1)), batch)
                with torch.enable_grad():
                    answer = head(backbone(sample)).float().log_softmax(1)[0]
                drawn = torch.multinomial(answer.detach().exp().cpu(), 1, generator=generator)
                found = torch.autograd.grad(
                    answer[int(drawn)], list(parameters.values()), materialize_grads=True
                )
                for total, gradient in zip(sums.values(), found, strict=True):
                    total.add_(gradient.float().square())
                count += 1
            if count >= images:
                break
    finally:
        for parameter, need in zip(parameters.values(), needed, strict=True):
            parameter.requires_grad_(need)
        for module, training in modes:
            module.training = training
    if not count:
        raise ValueError("The Fisher information needs images of the source, but there are none.")
    return {name: total / count for name, total in sums.items()}


class EWC(Penalty):
    """Pull each weight to the source's, in proportion to how much the source depends on it.

    ``weight / 2 * sum_i F_i (theta_i - theta_i*)^2`` over the backbone's parameters (Kirkpatrick et
    al., 2017, arXiv:1612.00796, equation 3). ``F`` is the diagonal of the Fisher information on
    images of the source, estimated once at the start and saved with the model. The defaults are
    ours; they were not compared with the authors' code.

    Args:
        data: The source's data, such as `tl.data.CifarDataModule`: its training images, not
            augmented.
        weight: ``lambda``, 0 or more. The paper searches it for each series of tasks.
        images: Number of source images for the Fisher information, 1 or more.
        source_task: Source task whose head to use, if there are several.

    Raises:
        ValueError: If a number is out of range; at the run's start, without a source checkpoint.
    """

    def __init__(
        self,
        data: LightningDataModule,
        weight: float = 1000.0,
        images: int = 1000,
        source_task: str | None = None,
    ) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"`weight` must be 0 or more, got {weight}.")
        if images < 1:
            raise ValueError(f"`images` must be 1 or more, got {images}.")
        self.data = data
        self.weight = weight
        self.images = images
        self.source_task = source_task
        self.weights: StartWeights | None = None
        self.fisher: StartWeights | None = None

    def attach(self, backbone: nn.Module, heads: nn.Module) -> None:
        """Allocate start weights and Fisher information."""
        self.weights = StartWeights(backbone)
        self.fisher = StartWeights(backbone)

    def prepare(self, start: Start) -> None:
        """Refuse a run without a source, and data with several sources."""
        require_checkpoint(self, start)
        if sources := getattr(self.data, "sources", None):
            raise ValueError(
                f"EWC reads one source, but its `data` have several: {', '.join(sources)}; give "
                "the data module of one."
            )

    def start(self, start: Start) -> None:
        """Store the source's weights, and estimate which of them it needs."""
        if self.weights is None or self.fisher is None:
            return
        source = SourceNetwork(start.backbone)
        head = source.load(require_checkpoint(self, start), self.source_task, start.rename)
        classes = getattr(self.data, "num_classes", {})
        if classes and len(head.weight) not in classes.values():
            rank_zero_warn(
                f"EWC: the source's head {head.task!r} has {len(head.weight)} classes and `data` "
                f"{', '.join(map(str, classes.values()))}; are these the data that the source was "
                "trained on?"
            )
        source.to(start.device, torch.float32)
        self.weights.set(dict(source.backbone.named_parameters()))
        found = fisher_diagonal(source.backbone, source.head, self._batches(start), self.images)
        self.fisher.set(found)

    def _batches(self, start: Start) -> Iterable[Inputs]:
        """Yield training images of the source, normalised, in a fixed random order."""
        self.data.prepare_data()
        self.data.setup("fit")
        for batch in self.data.train_dataloader():
            images, _ = self.data.on_after_batch_transfer(batch, 0)
            yield on_each(lambda part: part.to(start.device), images)

    def forward(self, step: Step) -> Tensor:
        """Return the term."""
        if self.weights is None or self.fisher is None:
            raise ValueError("EWC has no start weights; it must be attached to a model first.")
        return self.weight / 2 * weighted_distance(self.weights, self.fisher, step.backbone)


def weighted_distance(weights: StartWeights, fisher: StartWeights, backbone: nn.Module) -> Tensor:
    """Sum ``F_i (theta_i - theta_i*)^2`` over a backbone's parameters."""
    pairs = zip(weights.pairs(backbone), fisher.pairs(backbone), strict=True)
    terms = [(f * at_least_float32(p).sub(start).square()).sum() for (p, start), (_, f) in pairs]
    return torch.stack(terms).sum()
