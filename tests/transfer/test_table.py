from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.small import Staged
from tl.optim.param_groups import named_groups, scale_learning_rates
from tl.tasks.heads import linear_head
from tl.transfer import FullFineTuning, GradualUnfreezing, LinearProbe, Strategy
from tl.transfer.freezing import BatchNormMode
from tl.transfer.stage_modes import stage_modules
from tl.transfer.table import strategy_table


def rows(strategy: Strategy, *, one_cycle: bool = False) -> dict[str, list[str]]:
    net, heads = Staged(), nn.ModuleDict({"a": linear_head(8, 3)})
    extra = [{"name": "balancer", "params": [nn.Parameter(torch.ones(2))], "weight_decay": 0.0}]
    groups = [*named_groups(net, heads), *extra]
    optimizer = torch.optim.SGD(groups, lr=0.26, weight_decay=1e-4)
    stages = stage_modules(net, heads)
    scale_learning_rates(optimizer, strategy.lr_scales(list(stages)))
    if one_cycle:
        torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3.0, total_steps=10)
    title, _, *lines = strategy_table(strategy, optimizer.param_groups, stages).splitlines()
    assert title == type(strategy).__name__
    return {line.split()[0]: line.split(maxsplit=5)[1:] for line in lines}


def test_it_says_what_trains_when_and_how() -> None:
    found = rows(GradualUnfreezing(epochs_per_stage=2))
    assert found["stem"] == ["192", "6", "0.0148", "0.0001", "frozen, train from 6"]
    assert found["stem_no_decay"] == ["8", "6", "0.0148", "0", "frozen, train from 6"]
    assert found["layer2"] == ["192", "2", "0.1", "0.0001", "frozen, train from 2"]
    assert found["head"] == ["24", "0", "0.26", "0.0001", "-"]
    assert found["balancer"] == ["2", "0", "0.26", "0", "-"]


@pytest.mark.parametrize(
    ("bn", "full", "probe"),
    [
        ("train", "train", "frozen"),
        ("frozen", "frozen", "frozen"),
        ("adapt_stats", "adapt_stats", "adapt_stats"),
    ],
)
def test_it_says_what_batch_norm_does(bn: BatchNormMode, full: str, probe: str) -> None:
    assert rows(FullFineTuning(bn))["stem"][-1] == full
    found = rows(LinearProbe(bn))
    assert found["stem"][-1] == probe
    assert found["stem"][1] == "never"


def test_the_largest_rate_is_said_of_schedules_that_have_one() -> None:
    assert rows(FullFineTuning(), one_cycle=True)["head"][2] == "3"


def test_what_never_trains_is_not_counted() -> None:
    net, heads = Staged(), nn.ModuleDict({"a": linear_head(8, 3)})
    optimizer = torch.optim.SGD(named_groups(net, heads), lr=0.1)
    frozen = [*net.layer1.parameters(), *net.layer2[0].parameters()]
    table = strategy_table(
        FullFineTuning(), optimizer.param_groups, stage_modules(net, heads), frozen
    )
    found = {line.split()[0]: line.split()[1:] for line in table.splitlines()[2:]}
    assert found["stem"][:2] == ["192", "0"]
    assert found["layer1"][:2] == found["layer1_no_decay"][:2] == ["0", "never"]
    assert found["layer2"][:2] == ["0", "never"]
    assert found["layer2_no_decay"][:2] == ["16", "0"]
    assert found["layer1"][-1] == "train"  # its batch norm follows the strategy all the same
