"""Samples without a label (-1, or NaN in floats) are left out of losses and metrics."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from tl import Classification, MultiTaskModule
from tl.tasks.class_targets import MISSING
from tl.tasks.classification import cross_entropy

TASKS = (Classification("fine", 5, target="fine"), Classification("coarse", 3, target="coarse"))


class Pool(nn.Module):
    num_features = 3

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def module(**settings: Any) -> MultiTaskModule:
    torch.manual_seed(0)
    return MultiTaskModule(Pool(), TASKS, **settings)


def batch(fine: Tensor, coarse: Tensor) -> Any:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(len(fine), 3, 4, 4, generator=generator)
    return images, {"fine": fine, "coarse": coarse}


def trainer() -> Trainer:
    return Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        log_every_n_steps=1,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_mean_over_the_labelled(smoothing: float) -> None:
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([0, MISSING, 4, MISSING])
    found = cross_entropy(logits, target, smoothing)
    wanted = functional.cross_entropy(logits[[0, 2]], target[[0, 2]], label_smoothing=smoothing)
    torch.testing.assert_close(found, wanted)


def test_without_any_label_loss_and_gradient_are_zero() -> None:
    logits = torch.randn(4, 5, requires_grad=True)
    loss = cross_entropy(logits, torch.full((4,), MISSING), 0.1)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize(
    "coarse", [torch.tensor([0, MISSING, 2, 1]), torch.tensor([0.0, math.nan, 2.0, 1.0])]
)
def test_integers_and_floats_mark_what_is_missing(coarse: Tensor) -> None:
    ours = module()
    losses, outputs = ours.task_losses(batch(torch.arange(4), coarse))
    logits, target = outputs["coarse"]
    assert target.tolist() == [0, MISSING, 2, 1]
    kept = torch.tensor([0, 2, 3])
    torch.testing.assert_close(
        losses["coarse"].detach(), functional.cross_entropy(logits[kept], target[kept])
    )


def test_metrics_count_the_labelled_only() -> None:
    ours = module()
    fine = torch.tensor([0, 1, MISSING, 3])
    data = [batch(fine, torch.full((4,), MISSING)), batch(fine.flip(0), torch.full((4,), MISSING))]
    [found] = trainer().test(ours, DataLoader(data, batch_size=None), verbose=False)  # type: ignore[arg-type]
    ours.eval()
    right, losses = 0, []
    for one in data:
        task_losses, outputs = ours.task_losses(one)
        logits, target = outputs["fine"]
        right += int((logits.argmax(1) == target).sum())
        losses.append(float(task_losses["fine"]))
    assert found["test/fine/acc"] == pytest.approx(right / 6)
    assert found["test/fine/loss"] == pytest.approx(sum(losses) / 2)
    assert "test/coarse/acc" not in found  # it has no label at all
    assert found["test/acc"] == found["test/fine/acc"]


@pytest.mark.parametrize("name", [None, "MGDA", "NashMTL", "UPGrad"])
def test_training_goes_on_where_a_task_has_no_label(name: str | None) -> None:
    from torchjd import aggregation  # noqa: PLC0415

    class Layer(Pool):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, images: Tensor) -> Tensor:
            pooled: Tensor = self.layer(super().forward(images))
            return pooled

    torch.manual_seed(0)
    balancer = None if name is None else getattr(aggregation, name)
    ours = MultiTaskModule(
        Layer(), TASKS, balancer=balancer, optimizer=lambda p: torch.optim.SGD(p, lr=0.1)
    )
    before = {key: p.detach().clone() for key, p in ours.named_parameters()}
    data = [batch(torch.arange(4), torch.full((4,), MISSING))]
    done = trainer()
    done.fit(ours, DataLoader(data, batch_size=None))  # type: ignore[arg-type]
    moved = {key: (p - before[key]).abs().max().item() for key, p in ours.named_parameters()}
    assert moved["heads.coarse.weight"] == 0
    assert moved["heads.fine.weight"] > 0
    assert moved["backbone.layer.weight"] > 0
    assert all(torch.isfinite(p).all() for p in ours.parameters())
    assert "train/coarse/loss" not in done.callback_metrics
    assert done.callback_metrics["train/fine/loss"] > 0
