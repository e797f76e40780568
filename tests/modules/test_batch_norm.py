from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.small import multitask_module, trainer, two_sources
from tl.modules.batch_norm import (
    SourceBatchNorm2d,
    per_source_statistics,
    source_statistics,
    without_sources,
)
from tl.transfer import load_weights


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
    with pytest.raises(RuntimeError, match="to name the source"):
        per_source_statistics(net(), "ab")(batch(0.0))


def test_a_network_without_batch_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="Linear has none"):
        per_source_statistics(nn.Linear(1, 1), "ab")


def test_sources_of_other_names_start_from_the_mixture(tmp_path: Path) -> None:
    old, new = per_source_statistics(net(), "ab"), per_source_statistics(net(), "bc")
    for shift in (0.0, 3.0):
        for source in "ab":
            with source_statistics(old, source):
                old(batch(shift))
    torch.save(old.state_dict(), tmp_path / "old.pt")
    report = load_weights(new, tmp_path / "old.pt")
    ours, theirs = new.get_submodule("1"), old.get_submodule("1")
    assert isinstance(ours, SourceBatchNorm2d)
    ours.spread([s for s in "bc" if f"1.running_mean_{s}" not in report.loaded])
    assert torch.equal(ours.get_buffer("running_mean_b"), theirs.get_buffer("running_mean_b"))
    assert torch.equal(ours.get_buffer("running_mean_c"), ours.get_buffer("running_mean"))
    assert ours.get_buffer("running_mean_c").abs().sum() > 0


@pytest.mark.parametrize("setting", [{"affine": False}, {"momentum": None}])
def test_layers_that_would_change_their_nature_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs layers with scale, shift, momentum"):
        per_source_statistics(nn.Sequential(nn.BatchNorm2d(2, **setting)), "ab")


def test_batches_are_counted() -> None:
    ours = per_source_statistics(net(), "ab")
    with source_statistics(ours, "a"):
        ours(batch(0.0))
    assert ours.get_buffer("1.num_batches_tracked") == 1


def test_synchronised_statistics_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = two_sources()
    run = trainer(Path())
    monkeypatch.setattr(run.strategy, "_layer_sync", object(), raising=False)  # as on several GPUs
    ours = multitask_module(data, batch_norm="per_source_statistics")
    with pytest.raises(ValueError, match="`sync_batchnorm` would replace the statistics"):
        run.fit(ours, data)


def test_without_sources_is_an_ordinary_copy_of_the_mixture() -> None:
    ours = per_source_statistics(net(), "ab")
    for source, shift in (("a", 0.0), ("b", 5.0)):
        with source_statistics(ours, source):
            ours(batch(shift))
    plain, wanted = without_sources(ours).eval(), net().eval()
    wanted.load_state_dict({k: ours.state_dict()[k] for k in wanted.state_dict()})
    assert type(plain.get_submodule("1")) is nn.BatchNorm2d
    assert torch.equal(plain(batch(2.0)), wanted(batch(2.0)))
    assert [name for name, _ in plain.named_parameters()] == [n for n, _ in ours.named_parameters()]
    assert isinstance(ours.get_submodule("1"), SourceBatchNorm2d)
    ordinary = net()
    assert without_sources(ordinary) is ordinary


def test_batch_norm_with_an_activation_of_its_own_keeps_it() -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    kind = timm.layers.BatchNormAct2d
    net = nn.Sequential(nn.Conv2d(3, 4, 3), kind(4))
    images = torch.randn(2, 3, 8, 8)
    net(images)
    expected = net.eval()(images)
    names = set(net.state_dict())
    ours = per_source_statistics(net, ["a", "b"]).eval()
    with source_statistics(ours, "b"):
        torch.testing.assert_close(ours(images), expected)
    plain = without_sources(ours).eval()
    assert set(plain.state_dict()) == names
    torch.testing.assert_close(plain(images), expected)
    assert (plain(images) >= 0).all()


def test_batch_norm_of_an_unknown_kind_beside_torchs_is_one_line() -> None:
    class Own(nn.BatchNorm2d):
        pass

    net = nn.Sequential(nn.BatchNorm2d(3), Own(3))
    with pytest.raises(ValueError, match="Sequential has 1 more, such as Own; choose another"):
        per_source_statistics(net, ["a", "b"])
