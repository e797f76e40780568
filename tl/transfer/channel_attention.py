"""How much a target needs each channel of a source's feature maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter

import torch
from torch import Tensor, nn
from torch.nn import functional

from tl.batch import Inputs, at_least_float32, join, on_each
from tl.data.progress import progress
from tl.transfer.layer_outputs import channels_of, zeroed_channel

Labelled = tuple[Inputs, Tensor]
_BATCH = 32  # those of the authors of DELTA, as what follows
_EPOCHS, _LR, _DECAY_EPOCHS = 10, 0.01, 6


@torch.no_grad()
def gather(
    backbone: nn.Module, batches: Iterable[Labelled], images: int, seed: int = 0
) -> tuple[Tensor, Tensor, list[Labelled]]:
    """Return the features and labels of all labelled samples, and some of the samples.

    Args:
        backbone: Images to features; in evaluation mode.
        batches: Images and labels; negative ones are skipped.
        images: How many samples to draw at random.
        seed: Seed of the draw.

    Returns:
        Features ``(N, D)``, labels ``(N,)``, and the drawn samples in batches.

    Raises:
        ValueError: If no sample has a label.
    """
    generator = torch.Generator().manual_seed(seed)
    features: list[Tensor] = []
    labels: list[Tensor] = []
    drawn: list[tuple[float, Inputs, Tensor]] = []
    for inputs, given in batches:
        rows = (given >= 0).nonzero().flatten()
        if not len(rows):
            continue
        kept, target = on_each(itemgetter(rows), inputs), given[rows].long()
        features.append(at_least_float32(backbone(kept)))
        labels.append(target)
        keys = torch.rand(len(rows), generator=generator)
        limit = drawn[-1][0] if len(drawn) == images else 1.0  # the last that is still drawn
        for row in (keys < limit).nonzero().flatten():
            at = row[None].to(target.device)  # copies: a slice would hold the whole batch
            drawn.append((float(keys[row]), on_each(itemgetter(at), kept), target[at]))
        drawn = sorted(drawn, key=itemgetter(0))[:images]
    if not features:
        raise ValueError(
            "DELTA weighs feature maps by the loss on labelled images, but no training image has a "
            "label; use more labels (`label_fraction`)."
        )
    samples = [
        (join([inputs for _, inputs, _ in some]), torch.cat([target for *_, target in some]))
        for some in (drawn[first : first + _BATCH] for first in range(0, len(drawn), _BATCH))
    ]
    return torch.cat(features), torch.cat(labels), samples


def probe(features: Tensor, target: Tensor, num_classes: int, seed: int = 0) -> nn.Linear:
    """Train a linear classifier on fixed features, as the authors train theirs.

    Args:
        features: ``(N, D)``.
        target: Labels ``(N,)``, 0 or more.
        num_classes: Number of classes.
        seed: Seed of the order of samples.

    Returns:
        The classifier, which starts from zero weights.
    """
    # draws no random numbers: those of the training stay
    head: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]  # torch has no types
        nn.Linear, features.shape[1], num_classes, device=features.device
    )
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    optimizer = torch.optim.SGD(head.parameters(), lr=_LR, momentum=0.9, weight_decay=1e-4)
    decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.1 ** (1 / _DECAY_EPOCHS))
    generator = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for _ in range(_EPOCHS):
            order = torch.randperm(len(features), generator=generator).to(features.device)
            for rows in torch.split(order, _BATCH):
                optimizer.zero_grad()
                torch.autograd.backward(
                    functional.cross_entropy(head(features[rows]), target[rows])
                )
                optimizer.step()
            decay.step()
    return head.requires_grad_(requires_grad=False)


def loss_increases(
    backbone: nn.Module, head: nn.Module, samples: Sequence[Labelled], layers: Sequence[str]
) -> dict[str, Tensor]:
    """Return how much the loss grows without each filter of some layers.

    ``L(x, w without filter c) - L(x, w)`` (Li et al., 2019, equation 5), averaged over the samples.

    Returns:
        ``(C,)`` by layer.
    """
    count = sum(len(target) for _, target in samples)

    @torch.no_grad()
    def loss() -> Tensor:
        terms = [
            functional.cross_entropy(
                head(at_least_float32(backbone(inputs))), target, reduction="sum"
            )
            for inputs, target in samples
        ]
        return torch.stack(terms).sum() / count

    whole = loss()
    without: dict[str, list[Tensor]] = {name: [] for name in layers}
    filters = [(n, c) for n in layers for c in range(channels_of(backbone.get_submodule(n)))]
    for name, channel in progress(filters, len(filters), "Weighing filters", least=20):
        with zeroed_channel(backbone.get_submodule(name), channel):
            without[name].append(loss())
    return {name: torch.stack(losses) - whole for name, losses in without.items()}


def attention_of(increases: Tensor, temperature: float) -> Tensor:
    """Return ``softmax(z / temperature)`` of standardised increases of the loss ``z``, ``(C,)``."""
    centred = increases - increases.mean()
    spread = centred.square().mean().sqrt()
    return torch.softmax(centred / spread.clamp(min=1e-12) / temperature, dim=0)
