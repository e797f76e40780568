"""Projectors: the small networks on which two-view losses act, and which do not travel."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

Passes = Literal["one", "two"]


def mlp(*sizes: int) -> nn.Sequential:
    """Return linear layers with batch norm and ReLU between them, none on the output.

    Args:
        *sizes: Length of the input and of the output of each layer.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes[:-1]):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class Projector(nn.Module):
    """A projector of the features of two views.

    Args:
        net: The network, ``(N, num_features)`` to ``(N, size)``.
        passes: ``one``: its batch norm averages over both views together; ``two``: over each view.
    """

    def __init__(self, net: nn.Module, passes: Passes = "one") -> None:
        super().__init__()
        self.net = net
        self.passes = passes

    def forward(self, features: Tensor) -> Tensor:
        """Project features ``(2N, D)``, the first view of all images, then the second."""
        return by_view(self.net, features, self.passes if self.training else "one")


def by_view(net: nn.Module, features: Tensor, passes: Passes) -> Tensor:
    """Apply a network to the features ``(2N, D)`` of two views, in one or two passes.

    Raises:
        ValueError: If each view has one image and a pass of its own: batch norm has no spread.
    """
    if passes == "one":
        found: Tensor = net(features)
        return found
    if len(features) <= 2:  # noqa: PLR2004 - an image in two views
        raise ValueError(
            "A task of two views compares the images of a batch, and this batch has one; set "
            "`batch_size` to 2 or more."
        )
    return torch.cat([net(view) for view in features.chunk(2)])
