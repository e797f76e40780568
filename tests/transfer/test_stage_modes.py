from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.small import Staged
from tl.backbones import ResNet20
from tl.tasks.heads import linear_head
from tl.transfer.freezing import BatchNormMode
from tl.transfer.stage_modes import set_modes, set_requires_grad, stage_modules


def network() -> tuple[Staged, dict[str, list[nn.Module]]]:
    torch.manual_seed(0)
    net = Staged()
    return net, stage_modules(net, nn.ModuleDict({"a": linear_head(8, 3)}))


def test_stages_end_with_the_head() -> None:
    heads = nn.ModuleDict({"a": linear_head(64, 3)})
    assert list(stage_modules(ResNet20(), heads)) == ["stem", "layer1", "layer2", "layer3", "head"]
    assert list(stage_modules(nn.Linear(2, 2), heads)) == ["backbone", "head"]


def test_what_is_frozen_requires_no_gradient_and_has_none() -> None:
    net, stages = network()
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    frozen = set_requires_grad(stages, {"layer2", "head"})
    wanted = {id(p) for name in ("stem", "layer1") for m in stages[name] for p in m.parameters()}
    assert {id(p) for p in frozen} == wanted
    for p in net.parameters():
        assert p.requires_grad is (id(p) not in wanted)
        assert (p.grad is None) is (id(p) in wanted)
    assert set_requires_grad(stages, stages) == []
    assert all(p.requires_grad for p in net.parameters())


def test_fixed_parameters_lose_their_gradients_alone() -> None:
    net, stages = network()
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    frozen = set_requires_grad(stages, {"head"}, net.parameters())
    assert len(frozen) == len(list(net.parameters()))
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


@pytest.mark.parametrize(
    ("bn", "norms"),
    [
        ("train", {"stem": False, "layer1": False, "layer2": True}),
        ("frozen", {"stem": False, "layer1": False, "layer2": False}),
        ("adapt_stats", {"stem": True, "layer1": True, "layer2": True}),
    ],
)
def test_frozen_stages_evaluate_and_batch_norm_does_as_named(
    bn: BatchNormMode, norms: dict[str, bool]
) -> None:
    net, stages = network()
    for before in (True, False):  # whatever modes it is in
        net.train(before)
        set_modes(net, stages, {"layer2", "head"}, bn)
        for name, expected in norms.items():
            conv, norm, _ = getattr(net, name)
            assert norm.training is expected, name
            assert conv.training is (name == "layer2"), name
        assert stages["head"][0].training
    set_modes(net, stages, {"head"}, bn)
    assert not net.training
