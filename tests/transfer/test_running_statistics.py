from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from tests.small import Staged
from tl.modules.batch_norm import per_source_statistics
from tl.transfer.running_statistics import running_statistics, statistics_drift


def test_drift_is_the_divergence_of_normal_distributions() -> None:
    torch.manual_seed(0)
    net = Staged()
    start = running_statistics(net)
    terms = []
    for stage in ("stem", "layer1", "layer2"):
        mean = net.get_buffer(f"{stage}.1.running_mean").normal_()
        variance = net.get_buffer(f"{stage}.1.running_var").uniform_(0.5, 3.0)
        now = Normal(mean, variance.sqrt())
        terms.append(kl_divergence(now, Normal(torch.zeros(()), torch.ones(()))))
    expected = float(torch.cat(terms).mean())  # over 4 + 6 + 8 channels
    assert statistics_drift(net, start) == pytest.approx(expected, rel=1e-5)


def test_drift_is_zero_where_nothing_has_moved() -> None:
    net = Staged()
    net.get_buffer("stem.1.running_var").fill_(0.3)
    start = running_statistics(net)
    assert statistics_drift(net, start) == 0.0
    net(torch.randn(2, 3, 32, 32))
    assert statistics_drift(net, start) > 0.0
    assert statistics_drift(nn.Linear(2, 2), {}) == 0.0


def test_statistics_per_source_count_and_their_mixture_does_not() -> None:
    net = per_source_statistics(Staged(), ["a", "b"])
    start = running_statistics(net)
    assert set(start) == {
        f"{stage}.1.running_{what}_{source}"
        for stage in ("stem", "layer1", "layer2")
        for what in ("mean", "var")
        for source in ("a", "b")
    }
    net.get_buffer("stem.1.running_mean").add_(1.0)
    assert statistics_drift(net, start) == 0.0
    net.get_buffer("stem.1.running_mean_b").add_(1.0)
    assert statistics_drift(net, start) == pytest.approx(0.5 * 4 / 36)
