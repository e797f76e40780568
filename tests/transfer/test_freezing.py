from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.small import every_strategy, name_of
from tl.transfer import (
    LPFT,
    FullFineTuning,
    GradualUnfreezing,
    LayerWiseDecay,
    LinearProbe,
    Strategy,
    SurgicalFineTuning,
)

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
