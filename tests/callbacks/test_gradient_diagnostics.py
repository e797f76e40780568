from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchjd.aggregation import UPGrad

from tl import Classification, MultiTaskModule
from tl.backbones import ResNet20
from tl.callbacks.gradient_diagnostics import (
    GradientDiagnostics,
    compared,
    heat_map,
    matrix,
    summarised,
)
from tl.callbacks.task_measurement import fill_rows
from tl.tasks import Depth, Segmentation

TASKS = (Classification("a", 4, source="x"), Classification("b", 3, source="y"))


class Tiny(nn.Module):
    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.2)
        self.top = nn.Linear(6, 6)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.drop(self.norm(self.stem(images)).relu().mean((2, 3)))
        found: Tensor = self.top(hidden).tanh()
        return found

    def stages(self) -> dict[str, list[nn.Module]]:
        return {"stem": [self.stem, self.norm], "top": [self.top]}


def module(**settings: Any) -> MultiTaskModule:
    torch.manual_seed(0)
    settings = {"optimizer": lambda p: torch.optim.SGD(p, lr=0.1), **settings}
    return MultiTaskModule(Tiny(), TASKS, **settings)


def stream(count: int) -> Any:
    generator = torch.Generator().manual_seed(0)
    batches = [
        {
            "x": (torch.randn(6, 3, 8, 8, generator=generator), torch.arange(6) % 4),
            "y": (torch.randn(5, 3, 8, 8, generator=generator), torch.arange(5) % 3),
        }
        for _ in range(count)
    ]
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


def fit(
    ours: MultiTaskModule,
    *callbacks: Callback,
    count: int = 4,
    batches: Sequence[Any] | None = None,
    **settings: Any,
) -> Trainer:
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "max_epochs": 1,
    }
    trainer = Trainer(**{**quiet, **settings}, callbacks=list(callbacks))
    torch.manual_seed(1)
    given: Any = DataLoader(batches, batch_size=None) if batches else stream(count)  # type: ignore[arg-type]
    trainer.fit(ours, given)
    return trainer


def test_compared_by_hand() -> None:
    rows = torch.tensor([[3.0, 4.0], [-4.0, 3.0], [-1.0, 0.0]])
    found = compared(["a", "b", "c"], rows @ rows.T)
    assert found["balance/a/norm"] == pytest.approx(5)
    assert found["balance/cosine/a-b"] == pytest.approx(0)
    assert found["balance/cosine/a-c"] == pytest.approx(-0.6)
    assert found["balance/cosine/b-c"] == pytest.approx(0.8)
    assert found["balance/norm_ratio"] == pytest.approx(5)
    zero = compared(["a", "b"], torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert math.isnan(zero["balance/cosine/a-b"])
    assert math.isnan(zero["balance/norm_ratio"])


def test_a_gradient_that_overflows_has_no_cosine() -> None:
    rows = torch.tensor([[torch.inf, 1.0], [1.0, 1.0], [1e20, 0.0], [0.0, 1e20]])
    found = compared(["a", "b", "c", "d"], rows @ rows.T)  # the squares of c and d overflow too
    assert [name for name, value in found.items() if not math.isnan(value)] == ["balance/b/norm"]


def test_a_gradient_that_overflows_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflowing(*given: Any) -> dict[str, Tensor]:
        losses = fill_rows(*given)
        given[3].matrix[1, 0] = torch.inf  # a weight of the stem
        return losses

    monkeypatch.setattr("tl.callbacks.gradient_diagnostics.fill_rows", overflowing)
    callback = GradientDiagnostics(every_n_steps=1)
    logger = TensorBoardLogger(str(tmp_path), "run")
    fit(module(), callback, count=1, logger=logger, log_every_n_steps=1)
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"balance/a/norm", "balance/cosine/a-b/top"} <= scalars
    assert not {"balance/b/norm", "balance/norm_ratio", "balance/cosine/a-b"} & scalars
    assert math.isnan(callback.conflict_rate())
    assert callback.cosines["backbone"].count.sum(0).tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize("balancer", [None, UPGrad()])
def test_a_run_shows_scalars_and_a_heat_map(balancer: Any, tmp_path: Path) -> None:
    logger = TensorBoardLogger(str(tmp_path), "run")
    fit(
        module(balancer=balancer),
        GradientDiagnostics(every_n_steps=2),
        logger=logger,
        max_epochs=2,
        log_every_n_steps=1,
    )
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0})
    events.Reload()
    names = {"cosine/a-b", "a/norm", "b/norm", "norm_ratio"}
    wanted = {f"balance/{name}{end}" for name in names for end in ("", "/stem", "/top")}
    scalars = set(events.Tags()["scalars"])
    assert wanted | {"balance/conflict_rate", "balance/a/weight"} <= scalars
    steps = [event.step for event in events.Scalars("balance/cosine/a-b")]
    assert steps == [0, 2, 4, 6]
    assert all(-1 <= event.value <= 1 for event in events.Scalars("balance/cosine/a-b"))
    assert len(events.Images("balance/cosine_over_time")) == 2


def test_many_tasks_have_means_in_place_of_pairs(tmp_path: Path) -> None:
    tasks = [Classification(f"t{i}", 3, target=f"t{i}") for i in range(9)]
    ours = MultiTaskModule(Tiny(), tasks, optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 3, 8, 8, generator=generator)
    labels = {t.name: torch.randint(3, (6,), generator=generator) for t in tasks}
    callback = GradientDiagnostics(every_n_steps=1)
    logger = TensorBoardLogger(str(tmp_path), "run")
    fit(ours, callback, batches=[(images, labels)] * 2, logger=logger, log_every_n_steps=1)
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0})
    events.Reload()
    found = {n for n in events.Tags()["scalars"] if n.startswith("balance/")}
    pairs = {f"balance/cosine/{s}{e}" for s in ("mean", "lowest") for e in ("", "/stem", "/top")}
    assert {name for name in found if "cosine" in name} == pairs
    assert {name for name in found if name.endswith("/norm")} == {
        f"balance/t{i}/norm" for i in range(9)
    }
    assert not any("/norm/" in name for name in found)
    kept = callback.cosines["backbone"].mean()
    apart = ~torch.eye(9, dtype=torch.bool)
    both = [event.value for event in events.Scalars("balance/cosine/mean")]
    assert sum(both) / 2 == pytest.approx(float(kept[apart].mean()), abs=1e-6)
    assert callback.state_dict()["cosines"] == []
    assert 0 <= callback.conflict_rate() <= 1
    assert len(events.Images("balance/cosines")) == 1
    [shown] = matrix(callback.cosines["backbone"]).axes[0].images
    most = float(kept[apart].abs().max())
    assert shown.get_clim() == pytest.approx((-most, most))
    drawn: Any = shown.get_array()
    hidden = np.ma.getmaskarray(np.ma.masked_invalid(drawn))
    assert (hidden == np.eye(9, dtype=bool)).all()
    assert "balance/cosine_over_time" not in events.Tags()["images"]


def test_summaries_by_hand() -> None:
    values = {
        "balance/cosine/a-b": 0.5,
        "balance/cosine/a-c": -0.25,
        "balance/cosine/b-c": math.nan,
        "balance/cosine/a-b/top": math.nan,
        "balance/a/norm": 2.0,
        "balance/a/norm/top": 1.0,
        "balance/norm/norm": 4.0,
        "balance/norm_ratio/top": 3.0,
    }
    assert summarised(values) == {
        "balance/cosine/mean": 0.125,
        "balance/cosine/lowest": -0.25,
        "balance/a/norm": 2.0,
        "balance/norm/norm": 4.0,
        "balance/norm_ratio/top": 3.0,
    }


def test_the_values_are_those_of_the_tasks_own_gradients() -> None:
    class Spy(GradientDiagnostics):
        seen: dict[str, float]

        def measure(self, trainer: Trainer, module: Any, batch: Any) -> dict[str, float]:
            module.eval()  # dropout off
            self.seen = super().measure(trainer, module, batch)
            losses, _ = module.task_losses(batch)
            shared = list(module.backbone.parameters())
            self.rows = [
                torch.cat(
                    [g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True)]
                )
                for loss in losses.values()
            ]
            module.train()
            return self.seen

    spy = Spy()
    fit(module(), spy, count=1)
    a, b = spy.rows
    assert spy.seen["balance/a/norm"] == pytest.approx(a.norm().item(), rel=1e-5)
    wanted = torch.nn.functional.cosine_similarity(a, b, dim=0).item()
    assert spy.seen["balance/cosine/a-b"] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("balancer", [None, UPGrad()])
def test_training_is_not_changed(balancer: Any) -> None:
    watched, alone = module(balancer=balancer), module(balancer=balancer)
    callback = GradientDiagnostics(every_n_steps=1)
    fit(watched, callback, accumulate_grad_batches=2)
    fit(alone, accumulate_grad_batches=2)
    assert callback.state_dict()["steps"] == [0, 1]
    for (name, one), other in zip(
        watched.state_dict().items(), alone.state_dict().values(), strict=True
    ):
        if isinstance(one, Tensor):
            assert torch.equal(one, other), name


def test_batch_norm_in_decoders_is_not_changed() -> None:
    def trained(*callbacks: Callback) -> dict[str, Any]:
        torch.manual_seed(0)
        tasks = [Segmentation("parts", 3, target="parts"), Depth("depth", target="depth")]
        ours = MultiTaskModule(ResNet20(), tasks, optimizer=lambda p: torch.optim.SGD(p, lr=0.01))
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(2, 3, 8, 8, generator=generator)
        parts = torch.randint(3, (2, 8, 8), generator=generator)
        depth = torch.rand(2, 1, 8, 8, generator=generator) + 0.5
        fit(ours, *callbacks, batches=[(images, {"parts": parts, "depth": depth})])
        return dict(ours.state_dict())

    watched, alone = trained(GradientDiagnostics(every_n_steps=1)), trained()
    assert any(name.startswith("heads") and name.endswith("running_mean") for name in alone)
    for name, one in alone.items():
        if isinstance(one, Tensor):
            assert torch.equal(one, watched[name]), name


def test_conflict_rate_counts_pairs_over_a_window() -> None:
    callback = GradientDiagnostics(window=2)
    assert math.isnan(callback.conflict_rate())
    for step, cosine in enumerate((-1.0, -0.5, 0.5)):
        callback._remember(step, {"balance/cosine/a-b": cosine, "balance/cosine/a-b/top": -1.0})
    assert callback.conflict_rate() == 0.5


def test_a_resumed_run_goes_on_with_the_history() -> None:
    callback, resumed = GradientDiagnostics(every_n_steps=1), GradientDiagnostics(every_n_steps=1)
    fit(module(), callback, count=3)
    resumed.load_state_dict(callback.state_dict())
    assert resumed.state_dict() == callback.state_dict()
    assert resumed.conflict_rate() == callback.conflict_rate()
    fit(module(), resumed, count=1)
    assert resumed.state_dict()["steps"] == [0, 1, 2, 0]


def test_a_long_history_is_thinned() -> None:
    callback = GradientDiagnostics()
    for step in range(1200):
        callback._remember(step, {"balance/cosine/a-b": 0.0})
    steps = callback.state_dict()["steps"]
    assert len(steps) <= 512
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert len(heat_map(steps, callback.state_dict()["cosines"]).axes) == 2


def test_frozen_stages_are_left_out() -> None:
    ours = module()
    ours.backbone.get_submodule("stem").requires_grad_(requires_grad=False)
    ours.backbone.get_submodule("norm").requires_grad_(requires_grad=False)
    callback = GradientDiagnostics()
    fit(ours, callback, count=1)
    assert set(callback.state_dict()["cosines"][0]) == {"a-b"}


def test_mistakes_are_said() -> None:
    with pytest.raises(ValueError, match="`every_n_steps` must be 1 or more, got 0"):
        GradientDiagnostics(every_n_steps=0)
    single = MultiTaskModule(Tiny(), TASKS[:1])
    with pytest.raises(ValueError, match="fewer than two"):
        fit(single, GradientDiagnostics())
