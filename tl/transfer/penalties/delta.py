"""DELTA: keep the feature maps that the target needs as the source has them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from tl.backbones.streams import StreamsBackbone
from tl.batch import at_least_float32, join, size_of
from tl.counting import counted
from tl.transfer.channel_attention import attention_of, gather, loss_increases, probe
from tl.transfer.layer_outputs import channels_of, last_convolutions, outputs_of
from tl.transfer.network import SourceNetwork
from tl.transfer.penalties.base import Penalty, Start, Step, only_classification, require_source
from tl.transfer.penalties.l2_sp import squared_distance


def map_distance(maps: Tensor, reference: Tensor, attention: Tensor) -> Tensor:
    """Return ``1/2 sum_n sum_c C a_c ||F_nc - F0_nc||^2 / (H W)``, the authors' regulariser.

    Args:
        maps: Feature maps ``F`` of the trained network, ``(N, C, H, W)``.
        reference: Those of the source, ``F0``; no gradient flows to them.
        attention: Weights of the channels ``a``, ``(C,)``, that sum to 1.
    """
    change = at_least_float32(maps) - at_least_float32(reference.detach())
    by_channel = change.square().mean((2, 3)).sum(0)
    return 0.5 * len(attention) * (attention * by_channel).sum()


class DELTA(Penalty):
    """Keep feature maps close to the source's, most of all those that the target needs.

    ``alpha * 1/N sum_n sum_l 1/2 sum_c C_l a_lc ||F_lc(x_n) - F0_lc(x_n)||^2 / (H_l W_l) +
    beta / 2 * ||v||^2`` (Li et al., 2019, arXiv:1901.09229, section 3): ``F`` and ``F0`` are the
    outputs of the last convolution of each stage in the trained network and in the source, and
    ``v`` the new heads' weights. A channel's attention ``a`` is a softmax, over the layer, of how
    much the target's loss grows when its filter is zeroed in the source, below a linear classifier
    that is trained on the source's features. It is estimated once at the start, and saved with the
    model, as the source is. As in the authors' code (lixingjian/DELTA), the growth is standardised
    and divided by 5 before the softmax, and the optimizer's weight decay is off where the term
    acts. Where batch norm follows the target, the term does not start at 0.

    Differences from the authors' code: the classifier is trained on images without augmentation, in
    evaluation mode (theirs lets batch norm drift meanwhile), and the term is a mean over the batch,
    so that it does not depend on the batch size. Estimating the attention passes `images` once for
    each filter.

    Args:
        alpha: Strength on the feature maps, 0 or more. The authors' code sums over batches of 64
            with 0.01, which is 0.64 here; they use ten times that for Stanford Dogs.
        beta: Strength on the heads, 0 or more; the default is the authors' code's.
        images: Training images on which filters are zeroed, 1 or more; the authors' code uses 4
            batches of 32.
        temperature: Divides the standardised growth of the loss, above 0; the higher, the more
            equal the attention. The default is the authors' code's.
        layers: Names of convolutions in the backbone, such as ``layer1.2.conv3``; by default the
            last one of each stage after the stem, as the authors choose for ResNets.
        task: Task whose loss decides the attention, if there are several.

    Raises:
        ValueError: If a number is out of range; when the model is built, if the backbone has no
            such convolutions or a network per task; at the run's start, without source weights.
    """

    def __init__(
        self,
        alpha: float = 0.64,
        beta: float = 0.01,
        images: int = 128,
        temperature: float = 5.0,
        layers: Sequence[str] | None = None,
        task: str | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("alpha", alpha), ("beta", beta)):
            if value < 0:
                raise ValueError(f"`{name}` must be 0 or more, got {value}.")
        if images < 1:
            raise ValueError(f"`images` must be 1 or more, got {images}.")
        if temperature <= 0:
            raise ValueError(f"`temperature` must be positive, got {temperature}.")
        self.alpha, self.beta = alpha, beta
        self.images, self.temperature, self.task = images, temperature, task
        self.reads_layers: tuple[str, ...] = tuple(layers or ())
        self.network: SourceNetwork | None = None
        self.attention = nn.Module()

    def attach(self, backbone: nn.Module, heads: nn.Module) -> None:
        """Allocate the source and the attention."""
        if isinstance(backbone, StreamsBackbone):
            raise ValueError(  # noqa: TRY004 - an argument, as all others
                f"DELTA compares one network with the source's, and {type(backbone).__name__} has "
                "one for each task; choose another penalty, such as L2SP."
            )
        known = dict(backbone.named_modules())
        self.reads_layers = self.reads_layers or tuple(last_convolutions(backbone))
        wrong = [
            name for name in self.reads_layers if not channels_of(known.get(name, nn.Identity()))
        ]
        if wrong or not self.reads_layers:
            said = f"no convolution {', '.join(map(repr, wrong))}" if wrong else "none after a stem"
            raise ValueError(
                "DELTA compares the feature maps of convolutions, and the backbone "
                f"{type(backbone).__name__} has {said}; name some with `layers`, or choose another "
                "penalty, such as L2SP."
            )
        self.network = SourceNetwork(backbone)
        for name in self.reads_layers:
            empty = torch.zeros(channels_of(known[name]))
            self.attention.register_buffer(name.replace(".", "/"), empty)

    def prepare(self, start: Start) -> None:
        """Refuse a run without a source, or without a task that has classes."""
        require_source(self, start)
        only_classification(self, self.task, start)

    def start(self, start: Start) -> None:
        """Store the source, and estimate which of its filters the target needs."""
        if self.network is None:
            return
        self.network.backbone.load_state_dict(start.backbone.state_dict())
        source = copy.deepcopy(self.network.backbone).to(start.device, torch.float32)
        task = only_classification(self, self.task, start)
        filters = sum(channels_of(source.get_submodule(name)) for name in self.reads_layers)
        rank_zero_info(
            f"tl: DELTA zeroes {filters} filters of {len(self.reads_layers)} layers one by one, on "
            f"up to {counted(self.images, 'training image')} of {task!r}."
        )
        features, target, samples = gather(source, start.batches(task), self.images)
        head = probe(features, target, start.classes[task])
        for name, increases in loss_increases(source, head, samples, self.reads_layers).items():
            found = attention_of(increases, self.temperature)
            self.attention.get_buffer(name.replace(".", "/")).copy_(found)

    def decays(self) -> set[str]:
        """Return the parts whose strength is not 0."""
        parts = (("backbone", self.alpha), ("head", self.beta))
        return {part for part, strength in parts if strength}

    def forward(self, step: Step) -> Tensor:
        """Return the term over all images of the batch, from all sources together."""
        if self.network is None:
            raise ValueError("DELTA has no source network; it must be attached to a model first.")
        passes = list(step.images.values())
        if len(passes) > 1 and all(len(found) == 1 for found in step.layers.values()):
            passes = [join(passes)]  # one forward pass of all sources
        with torch.no_grad(), outputs_of(self.network.backbone, self.reads_layers) as reference:
            for inputs in passes:
                self.network.backbone(inputs)
        terms = []
        for name in self.reads_layers:
            attention = self.attention.get_buffer(name.replace(".", "/"))
            pairs = _side_by_side(name, step.layers.get(name, ()), reference[name])
            terms += [map_distance(maps, kept, attention) for maps, kept in pairs]
        count = sum(size_of(inputs) for inputs in passes)
        size = squared_distance((p, torch.zeros_like(p)) for p in step.heads.parameters())
        return self.alpha * torch.stack(terms).sum() / count + self.beta / 2 * size


def _side_by_side(
    name: str, maps: Sequence[Tensor], reference: Sequence[Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the maps of the same samples; two views of a source may have taken two passes."""
    there = iter(maps)
    for kept in reference:  # none where the forward pass leaves the layer out
        parts: list[Tensor] = []
        while sum(map(len, parts)) < len(kept) and (part := next(there, None)) is not None:
            parts.append(part)
        if sum(map(len, parts)) != len(kept):
            break
        yield torch.cat(parts), kept
    else:
        if reference and next(there, None) is None:
            return
    raise ValueError(
        f"DELTA compares one output of {name!r} for each sample, found outputs of "
        f"{[*map(len, maps)]} samples for inputs of {[*map(len, reference)]}; name other `layers`."
    )
