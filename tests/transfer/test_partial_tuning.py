from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.small import Staged, tiny_data, trainer
from tl import TransferModule
from tl.transfer import BitFit, FullFineTuning, NormTuning


@pytest.mark.parametrize(
    ("strategy", "trains"),
    [(BitFit(), ("bias",)), (NormTuning(), ("1.weight", "1.bias"))],  # 1 is a stage's batch norm
)
def test_only_these_parameters_and_the_head_move(
    strategy: FullFineTuning, trains: tuple[str, ...], tmp_path: Path
) -> None:
    data = tiny_data()
    module = TransferModule(Staged(), data.task, strategy=strategy)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module, data)
    moved = {n for n, p in module.named_parameters() if not torch.equal(p, before[n])}
    wanted = {n for n in before if n.startswith("heads.") or n.endswith(trains)}
    assert moved == wanted
    counted = sum(before[name].numel() for name in wanted)
    assert run.callback_metrics["transfer/trainable_parameters"] == counted


def test_attention_s_biases_and_other_norms_are_found() -> None:
    attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)
    parameters = dict(attention.named_parameters())
    wanted = {"in_proj_bias", "out_proj.bias", "bias_k", "bias_v"}
    found = {id(parameter) for parameter in BitFit().chosen(attention)}
    assert found == {id(parameters[name]) for name in wanted}

    class OwnRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

    net = nn.Sequential(nn.Linear(2, 2), nn.RMSNorm(2), OwnRMSNorm())
    scales = [net[1].weight, net[2].weight]
    assert [id(p) for p in NormTuning().chosen(net)] == [id(p) for p in scales]


def test_another_strategy_later_trains_everything_again(tmp_path: Path) -> None:
    data = tiny_data()
    module = TransferModule(Staged(), data.task, strategy=BitFit())
    trainer(tmp_path, max_epochs=1, limit_train_batches=1).fit(module, data)
    module.strategy = FullFineTuning()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    trainer(tmp_path, max_epochs=1, limit_train_batches=1).fit(module, data)
    assert not [n for n, p in module.named_parameters() if torch.equal(p, before[n])]


def test_a_backbone_without_such_parameters_is_refused() -> None:
    stages = {"all": [nn.Linear(2, 2, bias=False)], "head": [nn.Linear(2, 2)]}
    for strategy in (BitFit(), NormTuning()):
        with pytest.raises(ValueError, match="finds nothing to train in the backbone"):
            strategy.left_out(stages)
