from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.small import one_source
from tests.transfer.penalties.steps import (
    begun,
    checkpoint,
    images,
    network,
    penalty_of,
    start,
    step,
)
from tl.transfer.penalties import EWC
from tl.transfer.penalties.base import StartWeights
from tl.transfer.penalties.ewc import fisher_diagonal, weighted_distance


def test_the_value_by_hand() -> None:
    layer = nn.Linear(2, 1, bias=False)
    weights, fisher = StartWeights(layer), StartWeights(layer)
    weights.set({"weight": torch.tensor([[1.0, 2.0]])})
    fisher.set({"weight": torch.tensor([[4.0, 0.5]])})
    layer.load_state_dict({"weight": torch.tensor([[1.5, 0.0]])})
    # 4 * 0.5^2 + 0.5 * 2^2
    assert float(weighted_distance(weights, fisher, layer)) == pytest.approx(3)


def regression() -> tuple[nn.Linear, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Linear(3, 4, bias=False), torch.randn(5, 3)


def test_fisher_of_a_softmax_regression_by_the_drawn_labels() -> None:
    """``d log p_y / d W_cd = (1[y = c] - p_c) x_d``."""
    layer, inputs = regression()
    found = fisher_diagonal(layer, nn.Identity(), [inputs[:2], inputs[2:]], 5, seed=3)["weight"]
    generator, wanted = torch.Generator().manual_seed(3), torch.zeros(4, 3)
    for x in inputs:
        p = (layer.weight.detach() @ x).softmax(0)
        y = int(torch.multinomial(p, 1, generator=generator))
        wanted += ((nn.functional.one_hot(torch.tensor(y), 4) - p)[:, None] * x).square() / 5
    torch.testing.assert_close(found, wanted)


def test_fisher_of_a_softmax_regression_in_the_mean() -> None:
    """``E_y (1[y = c] - p_c)^2 x_d^2 = p_c (1 - p_c) x_d^2``: no label of the data is in it."""
    layer, inputs = regression()
    x = inputs[0]
    found = fisher_diagonal(layer, nn.Identity(), [x.expand(2000, 3)], 2000)["weight"]
    p = (layer.weight.detach() @ x).softmax(0)
    wanted = (p * (1 - p))[:, None] * x.square()
    torch.testing.assert_close(found, wanted, rtol=0.25, atol=1e-3)  # 2000 drawn labels
    assert float(found.sum()) == pytest.approx(float(wanted.sum()), rel=0.08)


def test_only_so_many_images_and_everything_as_it_was() -> None:
    backbone = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    backbone[0].weight.requires_grad_(False)
    inputs = regression()[1]
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    one = fisher_diagonal(backbone, nn.Identity(), [inputs[:2]], 2)
    two = fisher_diagonal(backbone, nn.Identity(), [inputs], 2)
    for name, value in one.items():
        assert torch.equal(value, two[name])
        assert (value >= 0).all()
    assert backbone.training
    assert backbone[1].training
    assert [p.requires_grad for p in backbone.parameters()] == [False, True, True, True]
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None for p in backbone.parameters())


def test_weights_outside_the_graph_count_nothing() -> None:
    layer = regression()[0]
    layer.register_parameter("unused", nn.Parameter(torch.ones(2)))
    assert not fisher_diagonal(layer, nn.Identity(), [regression()[1]], 2)["unused"].any()


def test_the_source_gives_weights_and_fisher(tmp_path: Path) -> None:
    source, heads = network(seed=1, classes=10)
    path = checkpoint(tmp_path / "source.ckpt", source, heads)
    target, new = network(seed=2)
    penalty = begun(penalty_of(EWC, weight=6.0), target, new, path)
    assert isinstance(penalty, EWC)
    assert penalty.weights is not None
    assert penalty.fisher is not None
    for parameter, kept in penalty.weights.pairs(source):
        assert torch.equal(parameter, kept)
    batches = list(penalty._batches(start(target, new, path)))
    wanted = fisher_diagonal(source, heads["task"], batches, 12)
    for (name, _), (_, kept) in zip(
        source.named_parameters(), penalty.fisher.pairs(source), strict=True
    ):
        torch.testing.assert_close(kept, wanted[name])
    term = penalty(step(target, new, images(), torch.zeros(6, dtype=torch.long)))
    by_hand = sum(
        float((wanted[n] * (p - q).square()).sum())
        for (n, p), q in zip(target.named_parameters(), source.parameters(), strict=True)
    )
    assert float(term) == pytest.approx(3 * by_hand, rel=1e-5)


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="`weight` must be 0 or more, got -1"):
        penalty_of(EWC, weight=-1)
    with pytest.raises(ValueError, match="`images` must be 1 or more, got 0"):
        penalty_of(EWC, images=0)
    with pytest.raises(ValueError, match="needs images of the source, but there are none"):
        fisher_diagonal(nn.Linear(1, 2), nn.Identity(), [], 1)


def test_data_of_another_source_are_doubted_and_several_refused(tmp_path: Path) -> None:
    source, heads = network(classes=5)
    path = checkpoint(tmp_path / "source.ckpt", source, heads)
    with pytest.warns(
        UserWarning, match="head 'task' has 5 classes and `data` 10; are these the data"
    ):
        begun(penalty_of(EWC), *network(), path)
    with pytest.raises(ValueError, match="reads one source, but its `data` have several: ten; "):
        begun(penalty_of(EWC, data=one_source()), *network(), path)
