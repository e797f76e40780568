"""Cross-stitch networks: a network for each task, mixed after every stage."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from tl.backbones.streams import StreamsBackbone

_STITCH = "stitch"


class CrossStitchUnit(nn.Module):
    """Mix the maps of ``T`` streams: ``x_i' = sum_j w_ij x_j`` (Misra et al., 2016, equation 1).

    Args:
        streams: Number of streams ``T``.
        channels: Channels of the maps.
        same: Start of the weight of a stream's own maps; the rest of 1 is split among the others.
        per_channel: Learn a matrix for each channel.

    Attributes:
        weight: ``(T, T)``, or ``(T, T, C)`` by channel; row ``i`` makes stream ``i``.
    """

    def __init__(
        self, streams: int, channels: int, same: float = 0.9, *, per_channel: bool = False
    ) -> None:
        super().__init__()
        other = (1 - same) / max(streams - 1, 1)
        start = torch.full((streams, streams), other)
        start.fill_diagonal_(same if streams > 1 else 1.0)
        if per_channel:
            start = start.unsqueeze(2).repeat(1, 1, channels)
        self.weight = nn.Parameter(start)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Mix maps ``(N, C, H, W)``, one of each stream."""
        weight = self.weight[..., None, None] if self.weight.ndim > 2 else self.weight  # noqa: PLR2004
        rows = ((w * x for w, x in zip(row, maps, strict=True)) for row in weight)
        return [reduce(add, parts) for parts in rows]


class CrossStitch(StreamsBackbone):
    """Cross-stitch network (Misra et al., 2016, arXiv:1604.03539): a network for each task.

    After every stage, each network continues with a learned linear combination of all networks'
    maps (:class:`CrossStitchUnit`). Heads read those of their own task's network, after the last
    combination (as in Vandenhende et al.'s code; LibMTL's leaves the last one out).

    All networks start as copies of the one given, or of its weights from ``init_from``; the paper
    starts them from one network, too, or from one trained on each task (section 5.3). Weights of a
    cross-stitch network with the same tasks start everything. Every task's loss reaches every
    network through the units, so that all of it counts as shared for balancers (as in LibMTL).

    Args:
        backbone: One of our ResNets.
        same: Start of the weight of a task's own maps, 0 to 1; the rest is split among the others,
            so that the weights of a row start with a sum of 1. The paper's 0.9 and 0.1 for two
            tasks (section 5.1).
        per_channel: Learn the units' weights for each channel instead of each stage.
        lr_scale: Learning rate of the units over that of the networks, above 0. The paper finds 100
            to 1000 best where networks start from ImageNet at a rate of 0.001 (section 5.2); at
            rates for training from scratch, such as 0.1, that would diverge.

    Raises:
        ValueError: If the network is another one, or an argument is out of range.
    """

    def __init__(
        self,
        backbone: nn.Module,
        same: float = 0.9,
        per_channel: bool = False,
        lr_scale: float = 1.0,
    ) -> None:
        super().__init__(backbone)
        if not 0 <= same <= 1:
            raise ValueError(f"`same` must be 0 to 1, got {same}.")
        if not lr_scale > 0:
            raise ValueError(f"`lr_scale` must be above 0, got {lr_scale}.")
        self.same, self.per_channel, self.lr_scale = same, per_channel, lr_scale
        self._first = [backbone]  # not a part yet: its stream has no name
        self.network: nn.ModuleDict = nn.ModuleDict()
        self.units = nn.ModuleList()

    def _build(self, tasks: Sequence[str]) -> None:
        first = self._first.pop()
        for task in tasks:
            self.network[task] = copy.deepcopy(first) if len(self.network) else first
        for channels in self.map_channels:
            unit = CrossStitchUnit(len(tasks), channels, self.same, per_channel=self.per_channel)
            self.units.append(unit)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the mean over the networks of each stage's map."""
        return [torch.stack(each).mean(0) for each in self._stages(images)]

    def streams(
        self, images: Tensor, tasks: Sequence[str]
    ) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """Return the mean ``(N, num_features)`` of the networks' vectors, and each task's maps."""
        found = self._stages(images)
        vector = torch.stack([self.pool([top]) for top in found[-1]]).mean(0)
        numbers = {task: self.tasks.index(task) for task in tasks}
        return vector, {task: [maps[i] for maps in found] for task, i in numbers.items()}

    def _stages(self, images: Tensor) -> list[list[Tensor]]:
        """Return the maps by stage, and in each by network."""
        self._check_named()
        networks = self.networks()
        x = [network.stem(images) for network in networks]
        found = []
        for unit, *rows in zip(self.units, *(each.rows() for each in networks), strict=True):
            x = [row(maps) for row, maps in zip(rows, x, strict=True)]
            if unit is self.units[-1]:
                x = [network.finish(maps) for network, maps in zip(networks, x, strict=True)]
            x = unit(x)
            found.append(x)
        return found

    def mixing(self) -> list[nn.Module]:
        """Return the units."""
        return [self.units]

    def lr_scales(self) -> dict[str, float]:
        """Return the factor on the units' learning rate."""
        return {_STITCH: self.lr_scale}

    def stages(self) -> dict[str, list[nn.Module]]:
        """Name the parts: each stage of all networks, and at the top the units, ``stitch``."""
        self._check_named()
        return {**super().stages(), _STITCH: [self.units]}
