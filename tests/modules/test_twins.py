from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torchjd.aggregation import UPGrad

from tests.small import Tiny, tiny_data, trainer
from tl import GeneratedDataModule, MultiTaskDataModule, MultiTaskModule, TransferModule
from tl.modules.finite import FiniteGuard
from tl.modules.twins import Twin, twin_of
from tl.tasks import BYOL, Classification, NTXent

TASK = BYOL(momentum=0.8, hidden=8, size=4)


def data_of(task: BYOL = TASK) -> GeneratedDataModule:
    return tiny_data(train_size=60, batch_size=12, val_size=0.2, learns=task)


def built(task: BYOL = TASK, **settings: Any) -> TransferModule:
    torch.manual_seed(0)
    sgd = torch.optim.SGD
    return TransferModule(
        Tiny(),
        data_of(task).task,
        optimizer=lambda p: sgd(p, lr=0.05, momentum=0.9),
        **settings,
    )


def state(module: LightningModule) -> dict[str, Tensor]:
    return {n: v.clone() for n, v in module.state_dict().items() if isinstance(v, Tensor)}


def twin(module: Any) -> Twin:
    found = twin_of(module, next(iter(module.tasks)))
    assert found is not None
    return found


class Weights(Callback):
    """One weight of the network and of its twin after each step."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        now = state(pl_module)
        [followed] = [v for n, v in now.items() if n.startswith("twins.") and "conv.weight" in n]
        self.seen.append((now["backbone.conv.weight"], followed))


def test_twin_follows_by_the_papers_average(tmp_path: Path) -> None:
    module, weights = built(), Weights()
    at_first = state(module)["backbone.conv.weight"]
    trainer(tmp_path, callbacks=[weights]).fit(module, data_of())
    expected = at_first
    for step, (there, found) in enumerate(weights.seen):
        tau = TASK.momentum_at(step / 8)
        expected = tau * expected + (1 - tau) * there
        assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.allclose(expected, weights.seen[-1][0])


class Explodes(Callback):
    """Spoils a gradient, and nothing that is computed before it."""

    def on_after_backward(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.global_step == 2:
            pl_module.backbone.conv.weight.grad[0] = torch.inf


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("on_device", [False, True])
def test_a_twin_does_not_follow_in_a_step_that_is_skipped(
    on_device: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FiniteGuard, "waits_for", staticmethod(lambda _: on_device))
    sgd = torch.optim.SGD
    module = TransferModule(
        Tiny(),
        data_of().task,
        optimizer=lambda p: sgd(p, lr=0.05, momentum=0.9, fused=True),
        on_nonfinite="skip",
    )
    weights = Weights()
    trainer(tmp_path, max_epochs=1, callbacks=[Explodes(), weights]).fit(module, data_of())
    assert module.guard.skipped == 1
    _, second, third, fourth = weights.seen
    assert all(map(torch.equal, second, third))
    assert not any(map(torch.equal, third, fourth))


def test_a_run_that_stops_in_mid_epoch_continues_with_its_twin(tmp_path: Path) -> None:
    whole = built()
    saved = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=1)
    run = trainer(tmp_path, callbacks=[saved], enable_checkpointing=True)
    run.fit(whole, data_of())
    assert {"val/loss", "val/spread"} <= run.callback_metrics.keys()
    torch.manual_seed(99)  # must not matter
    again = built()
    trainer(tmp_path).fit(again, data_of(), ckpt_path=tmp_path / "step=6.ckpt")
    expected = state(whole)
    assert any(name.startswith("twins.") and "running_mean" in name for name in expected)
    assert [k for k, v in state(again).items() if not torch.equal(v, expected[k])] == []


def test_no_gradient_and_no_optimizer_reach_the_twin(tmp_path: Path) -> None:
    module = built(BYOL(momentum=1.0, hidden=8, size=4))
    before = {n: p.clone() for n, p in twin(module).named_parameters()}
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module, data_of())
    assert all(torch.equal(p, before[n]) for n, p in twin(module).named_parameters())
    trained = {id(p) for group in run.optimizers[0].param_groups for p in group["params"]}
    assert not trained & {id(p) for p in twin(module).parameters()}
    assert not any(p.requires_grad for p in twin(module).parameters())


def test_a_skipped_step_leaves_the_twin_alone(tmp_path: Path) -> None:
    class Broken(Callback):
        def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.global_step == 1:
                next(pl_module.parameters()).grad.fill_(torch.nan)  # type: ignore[union-attr]

    module, seen = built(on_nonfinite="skip"), Weights()
    with pytest.warns(UserWarning, match="skipped, 1 of this run"):
        trainer(tmp_path, callbacks=[Broken(), seen], max_epochs=1).fit(module, data_of())
    assert torch.equal(seen.seen[0][1], seen.seen[1][1])
    assert not torch.equal(seen.seen[1][1], seen.seen[2][1])


def test_twin_starts_from_the_source_and_does_not_travel(tmp_path: Path) -> None:
    source = built()
    run = trainer(tmp_path, max_epochs=1)
    run.fit(source, data_of())
    run.save_checkpoint(tmp_path / "source.ckpt")
    path = str(tmp_path / "source.ckpt")
    again = built(init_from=path)
    here = source.backbone.conv.weight  # type: ignore[union-attr]
    assert torch.equal(twin(again).backbone.conv.weight, here)  # type: ignore[union-attr,arg-type]
    assert not torch.equal(twin(source).backbone.conv.weight, here)  # type: ignore[union-attr,arg-type]
    target = TransferModule(Tiny(), Classification("target", 5), init_from=path)
    assert torch.equal(target.backbone.conv.weight, here)  # type: ignore[union-attr,arg-type]
    assert len(target.twins) == 0


@pytest.mark.parametrize("batch_norm", ["joint", "per_source_statistics"])
def test_it_trains_beside_others_under_a_balancer(batch_norm: Any, tmp_path: Path) -> None:
    data = MultiTaskDataModule(
        sources={
            "labels": GeneratedDataModule(train_size=40, test_size=10),
            "views": GeneratedDataModule(train_size=40, test_size=10, learns=TASK),
        },
        batch_size=10,
    )
    module = MultiTaskModule(Tiny(), data.tasks, balancer=UPGrad(), batch_norm=batch_norm)
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module, data)
    assert {"val/labels/acc", "val/views/loss", "val/views/spread"} <= run.callback_metrics.keys()
    assert list(module.twins) == ["views"]


def test_other_tasks_have_none() -> None:
    assert len(TransferModule(Tiny(), NTXent()).twins) == 0
