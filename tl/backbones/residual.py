"""What our residual networks have in common: a stem, rows of blocks, and what ends them."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn
from torch.nn import functional

from tl.backbones.base import Backbone


class ResidualBackbone(Backbone):
    """A stem and then one row of residual blocks for each stage; a map is what a row gives.

    Attributes:
        map_channels: Channels of each stage's map.
        conv1: The first convolution.
        bn1: Its norm, or that of the end.
    """

    map_channels: tuple[int, ...]
    conv1: nn.Conv2d
    bn1: nn.BatchNorm2d

    @abstractmethod
    def stem(self, images: Tensor) -> Tensor:
        """Return what the first block reads, of images ``(N, C, H, W)``."""

    @abstractmethod
    def rows(self) -> list[nn.Sequential]:
        """Return the blocks of each stage, from the highest resolution to the lowest."""

    def stages(self) -> dict[str, list[nn.Module]]:
        """Return the stages: ``stem``, then ``layer1`` and so on."""
        found: dict[str, list[nn.Module]] = {"stem": [self.conv1, self.bn1]}
        return found | {f"layer{number}": [row] for number, row in enumerate(self.rows(), start=1)}

    def finish(self, top: Tensor) -> Tensor:
        """Return the last map, of what the last block gives: by default the same."""
        return top

    def forward(self, images: Tensor) -> Tensor:
        """Return the features ``(N, num_features)`` of images ``(N, C, H, W)``."""
        return self.pool(self.maps(images))

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the map of each stage, the last after what ends the network."""
        x = self.stem(images)
        found = []
        for row in self.rows():
            x = row(x)
            found.append(x)
        found[-1] = self.finish(x)
        return found

    def pool(self, maps: list[Tensor]) -> Tensor:
        """Return the mean ``(N, num_features)`` of the last map."""
        return functional.adaptive_avg_pool2d(maps[-1], 1).flatten(1)
