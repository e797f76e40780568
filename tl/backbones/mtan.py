"""MTAN: one shared network, and for each task attention on what its stages give."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import Bottleneck

from tl.backbones.residual import ResidualBackbone
from tl.backbones.streams import StreamsBackbone


class MTAN(StreamsBackbone):
    """Multi-task attention network (Liu, Johns & Davison, 2019, arXiv:1803.10704, section 3).

    ``a_i = sigmoid(h_i(g_i([u; f(a_i' * p')]))) * p``: at each stage a task ``i`` weighs the output
    ``p`` of the stage's last block by a mask, which it computes from the output ``u`` of the block
    before and from what it took of the stage below. ``g`` and ``h`` are 1x1 convolutions with batch
    norm, one pair for each task and stage. ``f`` is a residual bottleneck with a 3x3 convolution,
    one for each stage but the last and used by all tasks, followed by 2x2 max-pooling where the
    resolution falls. Heads read the weighted ``p`` of their task.

    This is the authors' variant for ResNets (``resnet_mtan.py`` of lorenmt/mtan, on ResNet-50),
    over all networks; theirs for SegNet has attention in a decoder too. LibMTL's is wider over
    networks of basic blocks.

    Attention and ``f`` start at random, train with the heads under any strategy, and are not among
    the shared parameters whose gradients a balancer aggregates (as in LibMTL): those are the shared
    network's. Weights of a single network (``init_from``) start that one; those of an MTAN with the
    same tasks start everything.

    Args:
        backbone: The shared network: one of our ResNets with two blocks or more in each stage.
        reduction: Channels of ``g`` are those of the stage over this; 4 is the authors'.

    Raises:
        ValueError: If the network is another one, a stage has a single block, or `reduction` is
            out of range.
    """

    def __init__(self, backbone: nn.Module, reduction: int = 4) -> None:
        super().__init__(backbone)
        self.backbone: ResidualBackbone = backbone  # type: ignore[assignment]  # checked above
        if not 1 <= reduction <= min(self.map_channels):
            raise ValueError(
                f"`reduction` must be 1 to {min(self.map_channels)}, the fewest channels of a "
                f"stage, got {reduction}."
            )
        self.reduction = reduction
        rows = self.backbone.rows()
        for number, row in enumerate(rows, start=1):
            if len(row) < 2:  # noqa: PLR2004 - a last block, and one before it
                raise ValueError(
                    "MTAN compares the outputs of the last two blocks of each stage, and stage "
                    f"{number} of {type(backbone).__name__} has {len(row)}; take a deeper network."
                )
        self.refine = nn.ModuleList(
            _refining_block(below, above) for below, above in pairwise(self.map_channels)
        )
        self.attention = nn.ModuleDict()

    def _build(self, tasks: Sequence[str]) -> None:
        below = (0, *self.map_channels[1:])  # what comes from the stage below has its channels
        for task in tasks:
            self.attention[task] = nn.ModuleList(
                _attention(channels + more, channels // self.reduction, channels)
                for channels, more in zip(self.map_channels, below, strict=True)
            )

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the maps of the shared network."""
        return self.backbone.maps(images)

    def streams(
        self, images: Tensor, tasks: Sequence[str]
    ) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """Return the shared network's vector ``(N, num_features)``, and each task's maps."""
        top, maps, _ = self._attend(images, tasks)
        return self.backbone.pool([top]), maps

    def masks(self, images: Tensor, tasks: Sequence[str]) -> dict[str, list[Tensor]]:
        """Return what each task's maps are weighed by: ``(N, C_s, H_s, W_s)`` in 0 to 1."""
        return self._attend(images, tasks)[2]

    def _attend(
        self, images: Tensor, tasks: Sequence[str]
    ) -> tuple[Tensor, dict[str, list[Tensor]], dict[str, list[Tensor]]]:
        """Return the shared network's last map, and maps and masks by task."""
        self._check_named()
        maps: dict[str, list[Tensor]] = {task: [] for task in tasks}
        masks: dict[str, list[Tensor]] = {task: [] for task in tasks}
        x = self.backbone.stem(images)
        rows = self.backbone.rows()
        for number, row in enumerate(rows):
            before = row[:-1](x)
            x = row[-1](before)
            last = number + 1 == len(rows)
            out = self.backbone.finish(x) if last else x
            for task in tasks:
                given = before
                if number:
                    refined = self.refine[number - 1](maps[task][-1])
                    if refined.shape[2:] != before.shape[2:]:
                        refined = functional.max_pool2d(refined, 2, ceil_mode=True)
                    given = torch.cat([before, refined], 1)
                mask = self.attention[task][number](given)  # type: ignore[index]
                masks[task].append(mask)
                maps[task].append(mask * out)
        return out, maps, masks

    def networks(self) -> list[ResidualBackbone]:
        """Return the shared network."""
        return [self.backbone]

    def shared(self) -> nn.Module:
        """Return the shared network."""
        return self.backbone

    def beside_heads(self, task: str | None = None) -> list[nn.Module]:
        """Return attention and ``f``, or a task's own attention."""
        return [self.attention, self.refine] if task is None else [self.attention[task]]

    def stages(self) -> dict[str, list[nn.Module]]:
        """Name the parts as the shared network does; attention and ``f`` are with the heads."""
        return self.backbone.stages()


def _attention(inputs: int, middle: int, outputs: int) -> nn.Sequential:
    """Return two 1x1 convolutions with batch norm, and a sigmoid."""
    return nn.Sequential(
        nn.Conv2d(inputs, middle, 1),
        nn.BatchNorm2d(middle),
        nn.ReLU(inplace=True),
        nn.Conv2d(middle, outputs, 1),
        nn.BatchNorm2d(outputs),
        nn.Sigmoid(),
    )


def _refining_block(inputs: int, outputs: int) -> nn.Module:
    """Return a bottleneck that keeps the resolution."""
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
    block: nn.Module = Bottleneck(inputs, outputs // 4, downsample=shortcut)
    return block
