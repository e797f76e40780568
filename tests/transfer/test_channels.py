"""A first convolution of other channels is told from another architecture."""

from __future__ import annotations

import torch
from torch import nn

from tl.transfer.channels import other_channels
from tl.transfer.names import targets_of


def said(source: nn.Module, backbone: nn.Module) -> str | None:
    state = source.state_dict()
    return other_channels(state, {name: name for name in state}, targets_of(backbone, ()))


def test_only_other_input_channels_of_the_first_convolution_are_explained() -> None:
    colour = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3))
    found = said(colour, nn.Sequential(nn.Conv2d(13, 4, 3), nn.Conv2d(4, 5, 3)))
    assert found is not None
    assert "found 3 input channels in 0.weight (4, 3, 3, 3), expected 13" in found
    assert "set the backbone's `in_channels` to 3, or re-initialise this layer" in found
    assert "`reinit: [0]`" in found
    assert said(colour, colour) is None
    # a second convolution that differs makes it another architecture
    assert said(colour, nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(6, 5, 3))) is None
    signals = nn.Sequential(nn.Conv1d(1, 4, 3))
    assert "found 1 input" in str(said(signals, nn.Sequential(nn.Conv1d(2, 4, 3))))


def test_a_network_without_convolutions_is_not_explained() -> None:
    with torch.no_grad():
        assert said(nn.Linear(2, 2), nn.Linear(3, 2)) is None
