"""Hooks that a subclass replaces where it should extend them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torchjd.aggregation import UPGrad

from tests.small import Tiny, tiny_data, trainer
from tl import Classification, MultiTaskModule, TransferModule
from tl.modules.hooks import TrainerHooks
from tl.modules.overrides import check_overrides
from tl.transfer import LPFT

TASKS = [Classification("a", 3), Classification("b", 3)]
HOOKS = [n for n in vars(TrainerHooks) if n.startswith("on_") or n in ("setup", "optimizer_step")]


def of(kind: type[TransferModule], **settings: Any) -> TransferModule:
    return kind(Tiny(), Classification("generated10", 10), **settings)


def nothing(*given: Any) -> None:
    del given


def _plainly_decorated(method: Any) -> Any:
    def wrapper(self: Any, *given: Any) -> Any:
        return method(self, *given)

    return wrapper


class Silent(TransferModule):
    def on_train_epoch_start(self) -> None:
        self.epochs = self.current_epoch


class Loud(TransferModule):
    """Every way to call the module's own."""

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()

    def on_validation_epoch_end(self) -> None:
        TransferModule.on_validation_epoch_end(self)

    @torch.no_grad()
    def on_train_epoch_end(self) -> None:
        for _ in [super(Loud, self).on_train_epoch_end() for _ in range(1)]:
            pass

    def on_train_batch_start(self, *given: Any) -> None:
        def later() -> None:
            super(Loud, self).on_train_batch_start(*given)

        later()

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self._finish(optimizer)

    def _finish(self, optimizer: Any) -> None:
        super().on_before_optimizer_step(optimizer)

    @_plainly_decorated
    def on_train_start(self) -> None:
        super().on_train_start()

    def teardown(self, stage: str) -> None:
        """The module has none."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.task_losses(batch)[0]["generated10"]


class Mixin(LightningModule):
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["mine"] = 1


class Mixed(Mixin, TransferModule):
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)


class NoSetup(TransferModule):
    def setup(self, stage: str) -> None:
        self.stage = stage


class OwnOptimizer(TransferModule):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1)


class OwnBackward(MultiTaskModule):
    def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        loss.backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            Silent,
            r"own \(\"Freeze and unfreeze stages for this epoch\"\); call super\(\)\.on_train_ep",
        ),
        (NoSetup, r"NoSetup\.setup replaces .* call super\(\)\.setup\(stage\) in it"),
        (Mixed, r"Mixin\.on_save_checkpoint replaces .*\.on_save_checkpoint\(checkpoint\) in it"),
    ],
)
def test_a_hook_that_is_replaced_is_refused_before_training(
    kind: Any, said: str, tmp_path: Path
) -> None:
    run = trainer(tmp_path, max_epochs=1)
    with pytest.raises(ValueError, match=said):
        run.fit(of(kind), tiny_data())
    assert run.global_step == 0


@pytest.mark.parametrize("name", HOOKS)
def test_each_hook_that_the_module_has_is_found(name: str) -> None:
    kind = type("Any", (TransferModule,), {name: nothing})
    with pytest.raises(ValueError, match=rf"Any\.{name} replaces the module's own .*{name}\("):
        check_overrides(of(kind))


def test_hooks_that_are_extended_train(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=2)
    module = of(Loud, strategy=LPFT(probe_epochs=1))
    before = module.backbone.conv.weight.clone()  # type: ignore[union-attr, operator]
    run.fit(module, tiny_data())
    assert not torch.equal(before, module.backbone.conv.weight)  # type: ignore[union-attr, arg-type]
    assert "val/acc" in run.callback_metrics


def test_a_backward_pass_may_be_replaced_without_a_balancer() -> None:
    check_overrides(OwnBackward(Tiny(), TASKS))
    with pytest.raises(ValueError, match=r"super\(\)\.backward\(loss, \*args, \*\*kwargs\) in it"):
        check_overrides(OwnBackward(Tiny(), TASKS, balancer=UPGrad()))


def test_a_hook_that_is_patched_may_call_the_former_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Patched(TransferModule):
        pass

    former = TransferModule.on_train_start
    monkeypatch.setattr(Patched, "on_train_start", _plainly_decorated(former))
    check_overrides(of(Patched))
    monkeypatch.setattr(Patched, "on_train_start", _plainly_decorated(nothing))
    with pytest.raises(ValueError, match="on_train_start replaces the module's own"):
        check_overrides(of(Patched))


def test_a_backward_pass_may_call_the_modules_by_its_class() -> None:
    class Own(MultiTaskModule):
        def backward(self, loss: torch.Tensor, *given: Any, **named: Any) -> None:
            MultiTaskModule.backward(self, loss, *given, **named)

    check_overrides(Own(Tiny(), TASKS, balancer=UPGrad()))


def test_a_strategy_needs_the_groups_of_the_module(tmp_path: Path) -> None:
    check_overrides(of(OwnOptimizer))
    run = trainer(tmp_path, max_epochs=1)
    with pytest.raises(ValueError, match="LPFT needs the module's own parameter groups; pass `opt"):
        run.fit(of(OwnOptimizer, strategy=LPFT()), tiny_data())
    assert run.global_step == 0
