"""The module around a balancer: passes of the backbone, strategies, logs, the plain path."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchjd.aggregation import PCGrad, UPGrad
from torchjd.scalarization import FAMO, UW

from tl import Classification, MultiTaskModule
from tl.balancing import StaticWeights
from tl.modules import balanced, multitask

TASKS = (Classification("a", 4, source="a"), Classification("b", 3, source="b"))


class Counting(nn.Module):
    num_features = 3

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.passes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.passes.append(len(images))
        found: Tensor = self.layer(images.mean((2, 3)))
        return found


def module(balancer: Any, **settings: Any) -> MultiTaskModule:
    torch.manual_seed(0)
    settings = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.1), **settings}
    return MultiTaskModule(Counting(), TASKS, balancer=balancer, **settings)


def batch() -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a": (torch.randn(4, 3, 4, 4, generator=generator), torch.arange(4)),
        "b": (torch.randn(3, 3, 4, 4, generator=generator), torch.arange(3)),
    }


def fit(ours: MultiTaskModule, *batches: Any, **settings: Any) -> Trainer:
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "max_epochs": 1,
    }
    trainer = Trainer(**{**quiet, **settings})
    trainer.fit(ours, DataLoader(list(batches) or [batch()], batch_size=None))  # type: ignore[arg-type]
    return trainer


def passes(ours: MultiTaskModule) -> list[int]:
    backbone = ours.backbone
    assert isinstance(backbone, Counting)
    return backbone.passes


@pytest.mark.parametrize(("balancer", "wanted"), [(None, [7]), (UW, [7]), (UPGrad(), [4, 3])])
def test_only_gradients_of_each_task_need_a_pass_each(balancer: Any, wanted: list[int]) -> None:
    ours = module(balancer)
    fit(ours)
    assert passes(ours) == wanted
    passes(ours).clear()
    ours.eval()
    ours.task_losses(batch())
    assert passes(ours) == [7]  # running statistics do not couple the sources


def test_the_pass_for_each_source_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(multitask, "rank_zero_info", said.append)
    module(UPGrad())
    [line] = said
    assert (
        "UPGrad needs each task's own gradient: training uses one forward pass per source" in line
    )
    module(UPGrad(), batch_norm="per_source")
    module(UW)
    assert len(said) == 1


def test_another_strategy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sharded(SingleDeviceStrategy):
        """Stands for the strategies whose processes hold parts of a gradient."""

    monkeypatch.setattr(balanced, "SingleDeviceStrategy", DDPStrategy)
    with pytest.raises(ValueError, match=r"one device or with DDP, not with Sharded"):
        fit(module(UPGrad()), strategy=Sharded(torch.device("cpu")))
    fit(module(None), strategy=Sharded(torch.device("cpu")))


def test_weights_and_ratio_by_name() -> None:
    ours = module(StaticWeights({"a": 2.0, "b": 1.0}))
    assert ours.balance() == {}
    fit(ours)
    assert ours.balance() == {"balance/a/weight": 2.0, "balance/b/weight": 1.0}
    ours = module(PCGrad())
    fit(ours, {"a": batch()["a"], "b": None})
    # an absent task has no weight; a single gradient is the mean and the update
    assert ours.balance() == {"balance/a/weight": 1.0, "balance/update_ratio": 1.0}


def test_without_a_balancer_nothing_is_kept_for_a_backward_pass() -> None:
    ours = module(None)
    fit(ours)
    assert ours.balanced is None
    assert ours.balance() == {}
    assert not [key for key in ours.state_dict() if key.startswith("balancer")]
    assert [group["name"] for group in ours.parameter_groups()].count("balancer") == 0


def test_a_second_look_that_is_not_finite_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = module(FAMO, on_nonfinite="skip")
    original, calls = ours.task_losses, [0]

    def spoilt(batch: Any, **how: Any) -> Any:
        losses, outputs = original(batch, **how)
        calls[0] += 1
        factor = torch.nan if calls[0] == 2 else 1.0  # after the first step
        return {name: loss * factor for name, loss in losses.items()}, outputs

    monkeypatch.setattr(ours, "task_losses", spoilt)
    run = fit(ours, batch(), batch())
    assert (calls, run.global_step, ours.guard.skipped) == ([4], 2, 0)


def test_a_second_look_leaves_the_statistics_of_heads() -> None:
    ours = module(FAMO)
    norm = nn.BatchNorm1d(3)
    ours.heads["a"] = nn.Sequential(norm, ours.heads["a"])
    fit(ours, batch(), batch())
    assert passes(ours) == [7] * 4
    assert norm.num_batches_tracked == 2
