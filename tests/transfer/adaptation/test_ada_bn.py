from __future__ import annotations

import pytest
import torch
from torch import nn

from tl.transfer.adaptation.ada_bn import adapt_statistics


def test_statistics_are_those_of_the_target() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    target = 5 + 2 * torch.randn(64, 3)
    assert adapt_statistics(net, torch.split(target, 16), net) == 4
    inside = net[0](target).detach()
    assert torch.allclose(net[1].get_buffer("running_mean"), inside.mean(0), atol=1e-5)
    variances = torch.stack([part.var(0) for part in torch.split(inside, 16)]).mean(0)
    assert torch.allclose(net[1].get_buffer("running_var"), variances, atol=1e-4)


def test_a_network_without_batch_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="AdaBN adapts batch norm, and the backbone Linear has no"):
        adapt_statistics(nn.Linear(2, 2), [torch.zeros(2, 2)], nn.Identity())
