from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from tl.backbones import ResNet18, ResNet20
from tl.modules import WarmupCosine
from tl.optim.param_groups import (
    keep_learning_rates,
    named_groups,
    scale_learning_rates,
    stage_of,
)
from tl.tasks.heads import linear_head
from tl.transfer import LayerWiseDecay


def test_every_parameter_is_in_one_group_named_by_its_stage() -> None:
    backbone, heads = ResNet20(), nn.ModuleDict({"a": linear_head(64, 10)})
    groups = named_groups(backbone, heads)
    stages = ("stem", "layer1", "layer2", "layer3", "head")
    assert [g["name"] for g in groups] == [n for s in stages for n in (s, f"{s}_no_decay")]
    placed = [id(p) for group in groups for p in group["params"]]
    everything = {id(p) for module in (backbone, heads) for p in module.parameters()}
    assert len(placed) == len(set(placed))
    assert set(placed) == everything


def test_norms_and_biases_do_not_decay() -> None:
    heads = nn.ModuleDict({"a": linear_head(64, 10)})
    optimizer = torch.optim.SGD(named_groups(ResNet20(), heads), lr=0.1, weight_decay=1e-3)
    for group in optimizer.param_groups:
        small = all(p.ndim <= 1 for p in group["params"])
        assert small == group["name"].endswith("_no_decay")
        assert group["weight_decay"] == (0.0 if small else 1e-3)


def test_frozen_parameters_stand_in_their_groups_too() -> None:
    backbone, heads = ResNet20().requires_grad_(False), nn.ModuleDict()
    groups = named_groups(backbone, heads)
    assert sum(len(g["params"]) for g in groups) == len(list(backbone.parameters()))


def test_stages_that_overlap_or_leave_out_are_refused() -> None:
    class Net(nn.Module):
        def __init__(self, names: dict[str, list[str]]) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)
            self.names = names

        def stages(self) -> dict[str, list[nn.Module]]:
            return {k: [getattr(self, n) for n in v] for k, v in self.names.items()}

    with pytest.raises(ValueError, match="'top' holds a parameter"):
        named_groups(Net({"stem": ["a"], "top": ["a", "b"]}), nn.ModuleDict())
    with pytest.raises(ValueError, match=r"leaves out b\.weight, b\.bias"):
        named_groups(Net({"stem": ["a"]}), nn.ModuleDict())


SCALES = LayerWiseDecay(0.5).lr_scales(["stem", "layer1", "layer2", "layer3", "layer4", "head"])


def scheduled(schedule: Callable[[Any], Any], scales: dict[str, float]) -> torch.optim.Optimizer:
    """An optimizer over a ResNet-18 after some steps of a schedule."""
    with torch.device("meta"):
        groups = named_groups(ResNet18(), nn.ModuleDict({"a": linear_head(512, 10)}))
    optimizer = torch.optim.SGD(groups, lr=0.4, momentum=0.9)
    scale_learning_rates(optimizer, scales)
    made = schedule(optimizer)
    keep_learning_rates(optimizer, scales, type(made).__name__)
    for _ in range(3):
        optimizer.step()
        made.step()
    return optimizer


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [
        (partial(lr_scheduler.ConstantLR, factor=1.0, total_iters=0), 1.0),
        (partial(WarmupCosine, total_steps=6, warmup=0.0), 0.5),
        (partial(lr_scheduler.CosineAnnealingLR, T_max=6), 0.5),
        (partial(lr_scheduler.StepLR, step_size=2, gamma=0.1), 0.1),
        # half-way up from a 25th, along half a cosine, to twice the optimizer's rate
        (
            partial(lr_scheduler.OneCycleLR, max_lr=0.8, total_steps=20, pct_start=0.35),
            2 * (1 + 1 / 25) / 2,
        ),
    ],
)
def test_six_learning_rates_stand_in_the_optimizer_after_a_schedules_steps(
    schedule: Callable[[Any], Any], factor: float
) -> None:
    optimizer = scheduled(schedule, SCALES)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert len(rates) == 12
    assert len({round(rate, 12) for rate in rates.values()}) == 6
    for name, rate in rates.items():
        assert rate == pytest.approx(0.4 * factor * SCALES[name.removesuffix("_no_decay")]), name


def test_one_cycle_keeps_its_own_range_without_shares() -> None:
    schedule = partial(lr_scheduler.OneCycleLR, max_lr=0.8, total_steps=20, pct_start=0.35)
    optimizer = scheduled(schedule, dict.fromkeys(SCALES, 1.0))
    assert {round(group["lr"], 12) for group in optimizer.param_groups} == {0.416}


def test_a_schedule_that_levels_the_rates_is_refused() -> None:
    schedule = partial(lr_scheduler.CyclicLR, base_lr=0.1, max_lr=0.2)
    with pytest.raises(ValueError, match=r"CyclicLR sets one range .* such as WarmupCosine"):
        scheduled(schedule, SCALES)
    scheduled(schedule, dict.fromkeys(SCALES, 1.0))


def test_groups_of_no_stage_keep_their_rate() -> None:
    groups = [{"name": name, "params": [nn.Parameter(torch.ones(1))]} for name in ("a", "other")]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    scale_learning_rates(optimizer, {"a": 0.1})
    keep_learning_rates(optimizer, {"a": 0.1}, "none")
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 1.0]


def test_a_group_names_its_stage() -> None:
    assert [stage_of({"name": n}) for n in ("layer1", "layer1_no_decay")] == ["layer1", "layer1"]
