from __future__ import annotations

import pytest
import torch
from torch import nn

from tl.modules.batch_norm import per_source_statistics, source_statistics


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(2)
    nn.init.uniform_(layer.weight)
    nn.init.uniform_(layer.bias)
    return nn.Sequential(nn.Conv2d(3, 2, 1), layer)


def batch(shift: float) -> torch.Tensor:
    return torch.randn(16, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 + shift


def test_each_source_is_one_ordinary_batch_norm() -> None:
    plain = {source: net() for source in "ab"}
    ours = per_source_statistics(net(), "ab")
    for source, shift in (("a", 0.0), ("b", 5.0), ("a", 1.0)):
        with source_statistics(ours, source):
            assert torch.equal(ours(batch(shift)), plain[source](batch(shift)))
    for part in (ours, *plain.values()):
        part.eval()
    for source in "ab":
        with source_statistics(ours, source):
            assert torch.equal(ours(batch(2.0)), plain[source](batch(2.0)))


def test_the_state_also_loads_into_an_ordinary_network_as_the_mixture() -> None:
    ours = per_source_statistics(net(), "ab")
    for source, shift in (("a", 0.0), ("b", 5.0)):
        with source_statistics(ours, source):
            for _ in range(200):
                ours(batch(shift))
    plain = net()
    state = {k: v for k, v in ours.state_dict().items() if not k.endswith(("_a", "_b"))}
    plain.load_state_dict(state)
    hidden = plain[0](torch.cat([batch(0.0), batch(5.0)]))
    layer = plain[1]
    assert isinstance(layer, nn.BatchNorm2d)
    torch.testing.assert_close(layer.running_mean, hidden.mean((0, 2, 3)), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(
        layer.running_var, hidden.var((0, 2, 3), unbiased=False), rtol=0.01, atol=0.01
    )


def test_without_a_source_it_does_not_guess() -> None:
    with pytest.raises(RuntimeError, match="Name the source"):
        per_source_statistics(net(), "ab")(batch(0.0))


def test_a_network_without_batch_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear has none"):
        per_source_statistics(nn.Linear(1, 1), "ab")
