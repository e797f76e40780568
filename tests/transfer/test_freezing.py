from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from tests.small import Staged, every_strategy, name_of
from tl.backbones import ResNet20
from tl.tasks.heads import linear_head
from tl.transfer import (
    LPFT,
    FullFineTuning,
    GradualUnfreezing,
    LayerWiseDecay,
    LinearProbe,
    Strategy,
    SurgicalFineTuning,
)
from tl.transfer.freezing import BatchNormMode, set_modes, set_requires_grad, stage_modules

STAGES = ["stem", "layer1", "layer2", "head"]


def trained(strategy: Strategy, epochs: int) -> list[list[str]]:
    return [
        [stage for stage in STAGES if stage in strategy.trainable(epoch, STAGES)]
        for epoch in range(epochs)
    ]


@pytest.mark.parametrize("strategy", every_strategy(), ids=name_of)
def test_a_strategy_says_when_it_changes_and_when_a_stage_first_trains(strategy: Strategy) -> None:
    per_epoch = trained(strategy, 12)
    changes = [e for e in range(1, 12) if per_epoch[e] != per_epoch[e - 1]]
    assert strategy.changes(STAGES) == changes
    firsts = {s: next((e for e in range(12) if s in per_epoch[e]), None) for s in STAGES}
    assert strategy.first_epochs(STAGES) == firsts
    assert set(strategy.lr_scales(STAGES)) == set(STAGES)
    assert trained(strategy, 12) == per_epoch  # asking changes nothing


def test_what_trains_when() -> None:
    assert trained(FullFineTuning(), 2) == [STAGES, STAGES]
    assert trained(LinearProbe(), 2) == [["head"], ["head"]]
    assert trained(LPFT(probe_epochs=2), 4) == [["head"], ["head"], STAGES, STAGES]
    assert trained(LayerWiseDecay(), 1) == [STAGES]
    assert trained(SurgicalFineTuning(["layer1"]), 2) == [["layer1"], ["layer1"]]
    assert trained(GradualUnfreezing(), 6) == [
        ["head"],
        ["layer2", "head"],
        ["layer1", "layer2", "head"],
        STAGES,
        STAGES,
        STAGES,
    ]


def test_learning_rates_fall_from_the_head_down() -> None:
    assert GradualUnfreezing().lr_scales(STAGES) == pytest.approx(
        {"head": 1, "layer2": 1 / 2.6, "layer1": 1 / 6.76, "stem": 1 / 17.576}
    )
    assert LayerWiseDecay(0.5).lr_scales(STAGES) == pytest.approx(
        {"head": 1, "layer2": 0.5, "layer1": 0.25, "stem": 0.125}
    )
    assert LPFT(backbone_lr=0.1).lr_scales(STAGES) == {
        "head": 1.0,
        **dict.fromkeys(["stem", "layer1", "layer2"], 0.1),
    }
    assert FullFineTuning().lr_scales(STAGES) == dict.fromkeys(STAGES, 1.0)


def test_a_stage_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(
        ValueError, match=r"'layer9', which the backbone lacks; its stages are stem, layer1, layer2"
    ):
        SurgicalFineTuning(["head", "layer9"]).check(STAGES)
    SurgicalFineTuning(["head", "layer2"]).check(STAGES)


class TopFirst(Strategy):
    """One of a user's own."""

    def __init__(self, top: str, scale: float = 1.0) -> None:
        super().__init__()
        self.top, self.scale = top, scale

    def trainable(self, epoch: int, stages: Sequence[str]) -> set[str]:
        return {"head"} if epoch < 1 else {"head", self.top}

    def changes(self, stages: Sequence[str]) -> list[int]:
        return [1]

    def lr_scales(self, stages: Sequence[str]) -> dict[str, float]:
        return dict.fromkeys(stages, self.scale)


def test_strategies_of_ones_own_are_checked_too() -> None:
    TopFirst("layer2").check(STAGES)
    with pytest.raises(ValueError, match="TopFirst names the stage 'layer4', which the backbone"):
        TopFirst("layer4").check(STAGES)
    with pytest.raises(ValueError, match=r"not above 0: stem 0\.0, layer1 0\.0"):
        TopFirst("layer2", scale=0.0).check(STAGES)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: LinearProbe(bn="off"), "`bn` must be one of frozen, adapt_stats, train, got off"),  # type: ignore[arg-type]
        (lambda: LPFT(probe_epochs=0), "`probe_epochs` must be 1 or more, got 0"),
        (lambda: LPFT(backbone_lr=0), "`backbone_lr` must be positive, got 0"),
        (lambda: GradualUnfreezing(epochs_per_stage=0), "`epochs_per_stage` must be 1 or more"),
        (lambda: GradualUnfreezing(factor=0.5), "`factor` must be 1 or more, got 0.5"),
        (lambda: LayerWiseDecay(0), "`decay` must be above 0 and at most 1, got 0"),
        (lambda: LayerWiseDecay(1.1), "`decay` must be above 0 and at most 1, got 1.1"),
        (
            lambda: SurgicalFineTuning([]),
            r"`stages` must be a list of at least one stage, got \[\]",
        ),
        (lambda: SurgicalFineTuning("stem"), "`stages` must be a list .*, got 'stem'"),
    ],
)
def test_refuses_settings_out_of_range(wrong: object, said: str) -> None:
    assert callable(wrong)
    with pytest.raises(ValueError, match=said):
        wrong()


# A network in an epoch


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
