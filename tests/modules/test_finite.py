"""A step that is not finite moves nothing, and the run says which task and when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchjd.aggregation import UPGrad

from tests.small import Staged, Tiny, module, multitask_module, tiny_data, trainer, two_sources
from tl import Regression, TransferModule
from tl.balancing.base import NonFiniteError
from tl.modules.finite import FiniteGuard
from tl.transfer import LPFT
from tl.transfer.penalties.base import Penalty, Step

BAD = 2  # the step that is spoilt, of five in an epoch


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def fused(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, fused=True)


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.01, fused=True)


class Spoil(Callback):
    """Put NaN into the images of a step, and remember what there was before it and after."""

    def __init__(self, steps: tuple[int, ...] = (BAD,), source: str | None = None) -> None:
        self.steps = steps
        self.source = source
        self.before: dict[str, Any] = {}
        self.after: dict[str, Any] = {}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx in self.steps:
            images, _ = batch[self.source] if self.source else batch
            images[0] = torch.nan
        self.remember(trainer, pl_module, batch, batch_idx)

    def remember(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == self.steps[0]:
            self.before = everything(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == self.steps[-1]:
            self.after = everything(trainer, pl_module)


def everything(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    found = {f"model/{k}": v for k, v in pl_module.state_dict().items() if isinstance(v, Tensor)}
    for number, state in trainer.optimizers[0].state_dict()["state"].items():
        found |= {f"{number}/{key}": value for key, value in state.items()}
    balancer = getattr(pl_module, "balancer", None)
    if balancer is not None:
        found |= {f"balancer/{k}": v for k, v in flat(balancer.get_extra_state()).items()}
    return {k: v.clone() if isinstance(v, Tensor) else v for k, v in found.items()}


def flat(memory: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(memory, dict):
        return {prefix: memory}
    found: dict[str, Any] = {}
    for key, value in memory.items():
        found |= flat(value, f"{prefix}/{key}")
    return found


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    assert one.keys() == other.keys()
    return all(
        torch.equal(value.nan_to_num(), other[key].nan_to_num())
        if isinstance(value, Tensor)
        else value == other[key]
        for key, value in one.items()
    )


def fit(
    folder: Path, ours: LightningModule, data: Any, *callbacks: Callback, **settings: Any
) -> Trainer:
    run = trainer(folder, **{"max_epochs": 1, "callbacks": list(callbacks), **settings})
    run.fit(ours, data)
    return run


@pytest.mark.parametrize("optimizer", [sgd, adamw])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_stops_before_the_step(
    optimizer: Callable[..., Any], accumulate: int, tmp_path: Path
) -> None:
    data = tiny_data()
    ours = module(data, optimizer=optimizer)
    first = BAD // accumulate * accumulate
    spoil = Spoil((first, first + accumulate - 1) if accumulate > 1 else (BAD,))
    said = rf"The loss of task 'generated10' is not finite at step {BAD // accumulate}, which"
    with pytest.raises(NonFiniteError, match=said):
        fit(tmp_path, ours, data, spoil, accumulate_grad_batches=accumulate)
    assert same(spoil.before, everything(ours.trainer, ours))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("optimizer", [sgd, adamw])
def test_a_skipped_step_moves_nothing_and_is_counted(
    optimizer: Callable[..., Any], tmp_path: Path
) -> None:
    data = tiny_data()
    ours = module(data, optimizer=optimizer, on_nonfinite="skip")
    spoil = Spoil()
    run = fit(tmp_path, ours, data, spoil)
    assert same(spoil.before, spoil.after)
    assert run.global_step == 5
    assert run.callback_metrics["train/skipped_steps"] == 1
    assert run.callback_metrics["train/loss"].isfinite()
    run.save_checkpoint(tmp_path / "a.ckpt")
    again = module(data, on_nonfinite="skip")
    fit(tmp_path, again, data).fit(again, data, ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert again.guard.skipped == 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("action", ["stop", "skip"])
@pytest.mark.parametrize("optimizer", [fused, adamw])
def test_a_fused_optimiser_leaves_the_step_out_without_being_waited_for(
    optimizer: Callable[..., Any], action: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: what happened is read when metrics are logged, here after the fifth step."""
    monkeypatch.setattr(FiniteGuard, "waits_for", staticmethod(lambda _: True))
    data = tiny_data()
    ours = module(data, optimizer=optimizer, on_nonfinite=action)
    spoil = Spoil()
    if action == "stop":
        with pytest.raises(
            NonFiniteError, match=rf"task 'generated10' is not finite at step {BAD},"
        ):
            fit(tmp_path, ours, data, spoil, log_every_n_steps=5)
        spoil.after = everything(ours.trainer, ours)  # after the two steps that followed
    else:
        run = fit(tmp_path, ours, data, spoil, log_every_n_steps=5)
        assert ours.guard.skipped == run.callback_metrics["train/skipped_steps"] == 1
        assert all(value.isfinite().all() for value in ours.state_dict().values())
    weights = [
        {k: v for k, v in s.items() if "norm.r" not in k and "num_b" not in k}
        for s in (spoil.before, spoil.after)
    ]
    assert same(*weights)


@pytest.mark.filterwarnings("ignore")
def test_validation_does_not_meet_what_a_step_left_out_on_the_device_has_spoilt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FiniteGuard, "waits_for", staticmethod(lambda _: True))
    data = tiny_data()
    ours = module(data, optimizer=fused, on_nonfinite="skip")
    run = fit(tmp_path, ours, data, Spoil(), log_every_n_steps=50)
    assert ours.guard.skipped == 1
    assert run.callback_metrics["val/loss"].isfinite()


def with_normed_head(data: Any, **settings: Any) -> TransferModule:
    """A module whose head has running statistics, as decoders and projectors do."""
    ours = module(data, optimizer=sgd, **settings)
    ours.heads["generated10"] = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 10))
    return ours


@pytest.mark.filterwarnings("ignore")
def test_a_skipped_step_moves_no_statistics_of_heads(tmp_path: Path) -> None:
    data = tiny_data()
    ours, spoil = with_normed_head(data, on_nonfinite="skip"), Spoil()
    run = fit(tmp_path, ours, data, spoil)
    assert same(spoil.before, spoil.after)
    assert run.callback_metrics["val/loss"].isfinite()
    ours.heads.get_buffer("generated10.0.running_var")[1] = torch.nan
    said = r"heads\.generated10\.0\.running_var is not finite at step 5: it is not saved"
    with pytest.raises(ValueError, match=said):
        run.save_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("loss", ["mse", "l1"])
@pytest.mark.parametrize("action", ["stop", "skip"])
@pytest.mark.filterwarnings("ignore")
def test_a_loss_that_overflows_counts_though_its_gradient_is_finite(
    loss: Literal["mse", "l1"], action: Any, tmp_path: Path
) -> None:
    images, targets = torch.randn(8, 3, 8, 8), torch.zeros(8)
    targets[4:6] = 3e19 if loss == "mse" else 3e38
    batches = DataLoader(TensorDataset(images, targets), 2)
    ours = TransferModule(Tiny(), Regression("y", loss=loss), optimizer=sgd, on_nonfinite=action)
    steps = Spoil()
    steps.on_train_batch_start = steps.remember  # type: ignore[method-assign]
    run = trainer(tmp_path, max_epochs=1, limit_val_batches=0, callbacks=[steps])
    if action == "stop":
        with pytest.raises(NonFiniteError, match=r"The loss of task 'y' is not finite at step 2,"):
            run.fit(ours, batches)
        steps.after = everything(run, ours)
    else:
        run.fit(ours, batches)
        assert ours.guard.skipped == 1
    assert same(steps.before, steps.after)


@pytest.mark.filterwarnings("ignore")
def test_statistics_go_back_to_the_last_look_where_the_device_leaves_a_step_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its activations were finite: only the gradient was not."""
    monkeypatch.setattr(FiniteGuard, "waits_for", staticmethod(lambda _: True))
    seen: list[dict[str, Any]] = []

    class Starts(Callback):
        def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
            seen.append(everything(trainer, pl_module))

    data = tiny_data()
    ours = module(data, optimizer=fused, on_nonfinite="skip")
    fit(tmp_path, ours, data, ExplodingGradient(BAD), Starts(), log_every_n_steps=1)
    assert ours.guard.skipped == 1
    assert same(seen[BAD], seen[BAD + 1])
    assert not same(seen[BAD + 1], seen[BAD + 2])


@pytest.mark.filterwarnings("ignore")
def test_a_stage_that_thaws_into_a_bad_step_gets_no_momentum_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FiniteGuard, "waits_for", staticmethod(lambda _: True))
    data = tiny_data()
    ours = module(data, Staged, optimizer=fused, on_nonfinite="skip", strategy=LPFT(probe_epochs=1))

    class SpoilSecond(Spoil):
        def on_train_batch_start(self, trainer: Trainer, *given: Any) -> None:
            if trainer.current_epoch == 1:
                super().on_train_batch_start(trainer, *given)

    spoil = SpoilSecond((0,))
    fit(tmp_path, ours, data, spoil, max_epochs=2, log_every_n_steps=50)
    momenta = [
        {key: value for key, value in state.items() if key.endswith("/momentum_buffer")}
        for state in (spoil.before, spoil.after)
    ]
    assert momenta[0]
    assert same(*momenta)
    assert ours.guard.skipped == 1


def test_too_many_in_a_row_stop_the_run(tmp_path: Path) -> None:
    data = tiny_data()
    ours = module(data, on_nonfinite="skip", max_skips=2)
    with (
        pytest.warns(UserWarning, match="skipped, 2 of this run"),
        pytest.raises(NonFiniteError, match="and 2 steps before it were skipped at step 3"),
    ):
        fit(tmp_path, ours, data, Spoil((1, 2, 3)))


@pytest.mark.filterwarnings("ignore")
def test_those_before_a_resume_count_in_a_row(tmp_path: Path) -> None:
    data = tiny_data()
    ours = module(data, on_nonfinite="skip", max_skips=2)
    run = fit(tmp_path, ours, data, Spoil((3, 4)))
    run.save_checkpoint(tmp_path / "a.ckpt")
    again = module(data, on_nonfinite="skip", max_skips=2)
    said = "and 2 steps before it were skipped at step 5"
    longer = trainer(tmp_path, max_epochs=2, callbacks=[Spoil((0,))])
    with pytest.raises(NonFiniteError, match=said):
        longer.fit(again, data, ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    fit(tmp_path, ours, data, Spoil((0,)))  # another run counts anew


class ExplodingGradient(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_after_backward(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.global_step == self.step:
            pl_module.backbone.conv.weight.grad[0] = torch.inf


def test_a_gradient_alone_names_its_group(tmp_path: Path) -> None:
    data = tiny_data()
    said = r"losses are finite, but the gradient of backbone is not at step 2"
    with pytest.raises(NonFiniteError, match=said):
        fit(tmp_path, module(data), data, ExplodingGradient(2))


def test_large_gradients_are_finite(tmp_path: Path) -> None:
    """Their squares overflow; clipped they are as good as any."""

    class Large(Callback):
        def on_after_backward(self, trainer: Trainer, pl_module: Any) -> None:
            pl_module.backbone.conv.weight.grad *= 1e30

    data = tiny_data()
    run = fit(
        tmp_path,
        module(data),
        data,
        Large(),
        gradient_clip_val=0.1,
        gradient_clip_algorithm="value",
    )
    assert run.global_step == 5


class NotFinite(Penalty):
    def forward(self, step: Step) -> Tensor:
        return next(iter(step.features.values())).sum() * torch.nan


def test_a_penalty_is_named(tmp_path: Path) -> None:
    data = tiny_data()
    with pytest.raises(NonFiniteError, match=r"The penalty transfer/\w+ is not finite at step 0"):
        fit(tmp_path, module(data, penalties=NotFinite()), data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["sum", "upgrad", "uncertainty", "famo", "dwa", "grad_vac"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_balancers_forget_a_step_that_is_not_taken(
    method: str, accumulate: int, tmp_path: Path
) -> None:
    data = two_sources(epoch_length=6)
    ours = multitask_module(data, balancer=balancer(method), on_nonfinite="skip", optimizer=sgd)
    spoil = Spoil((2, 3) if accumulate == 2 else (3,), "hundred")
    run = fit(tmp_path, ours, data, spoil, accumulate_grad_batches=accumulate)
    assert same(spoil.before, spoil.after)
    assert ours.guard.skipped == 1
    assert run.global_step == 6 // accumulate
    assert all(v.isfinite() for k, v in run.callback_metrics.items() if k.startswith("train"))

    ours = multitask_module(data, balancer=balancer(method))
    names = "'hundred_fine', 'hundred_coarse'"  # and with one pass for all, the other one
    with pytest.raises(NonFiniteError, match=rf"{names} are not finite at step 3"):
        fit(tmp_path, ours, data, Spoil((3,), "hundred"))


def balancer(method: str) -> Any:
    from torchjd.aggregation import GradVac  # noqa: PLC0415
    from torchjd.scalarization import DWA, FAMO  # noqa: PLC0415

    from tl.balancing import Uncertainty  # noqa: PLC0415

    made: dict[str, Callable[[], Any]] = {
        "sum": lambda: None,
        "upgrad": UPGrad,
        "uncertainty": lambda: Uncertainty,
        "famo": lambda: FAMO,
        "dwa": DWA,
        "grad_vac": GradVac,
    }
    return made[method]()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("several", [False, True])
def test_overflow_is_the_scalers_business_and_a_bad_loss_is_not(
    several: bool, tmp_path: Path
) -> None:
    def run(scale: float, *callbacks: Callback, action: Any = "stop") -> Any:
        data: Any = two_sources(epoch_length=5) if several else tiny_data()
        ours: Any = (
            multitask_module(data, balancer=UPGrad(), on_nonfinite=action)
            if several
            else module(data, on_nonfinite=action)
        )
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        plugin = MixedPrecision("16-mixed", "cpu", scaler)
        fit(tmp_path, ours, data, *callbacks, plugins=[plugin])
        return ours, scaler

    ours, scaler = run(2.0**40, action="skip")
    assert scaler.get_scale() < 2.0**40
    assert ours.guard.skipped == 0
    source = "ten" if several else None
    with pytest.raises(NonFiniteError, match=r"The loss of task .* at step 2"):
        run(2.0**4, Spoil(source=source))
    spoil = Spoil(source=source)
    ours, _ = run(2.0**4, spoil, action="skip")
    assert ours.guard.skipped == 1
    assert same(spoil.before, spoil.after)


def test_a_scaler_does_not_hide_a_gradient_that_no_scale_cures(tmp_path: Path) -> None:
    class Always(Callback):
        def on_after_backward(self, trainer: Trainer, pl_module: Any) -> None:
            pl_module.backbone.conv.weight.grad[0] = torch.nan

    data = tiny_data()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-12)
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    with pytest.raises(NonFiniteError, match="the gradient of backbone is not at step 2"):
        fit(tmp_path, module(data), data, Always(), plugins=[plugin])


def test_no_checkpoint_holds_what_is_not_finite(tmp_path: Path) -> None:
    data = tiny_data()
    ours = module(data)
    run = fit(tmp_path, ours, data)
    path = tmp_path / "last.ckpt"
    run.save_checkpoint(path)
    whole = path.read_bytes()
    ours.backbone.get_buffer("norm.running_mean")[0] = torch.nan
    said = r"backbone\.norm\.running_mean is not finite at step 5: it is not saved"
    with pytest.raises(ValueError, match=said):
        run.save_checkpoint(path)
    assert path.read_bytes() == whole


def test_masks_may_be_infinite(tmp_path: Path) -> None:
    class Masked(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.full((2, 2), -torch.inf))

    data = tiny_data()
    run = fit(tmp_path, module(data, Masked), data)
    run.save_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"action": "halt"}, "must be 'stop' or 'skip', got 'halt'"),
        ({"max_skips": -1}, "`max_skips` must be 0 or more, got -1"),
    ],
)
def test_arguments_are_checked(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FiniteGuard(**settings)


def test_the_cost_is_a_handful_of_calls(tmp_path: Path) -> None:
    import sys  # noqa: PLC0415

    data = tiny_data()
    ours = module(data)
    run = fit(tmp_path, ours, data)
    loss = {"generated10": nn.Parameter(torch.ones(())) * 1}
    for p in ours.parameters():
        p.grad = torch.ones_like(p)
    counted = 0

    def count(_: Any, event: str, __: Any) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        ours.guard.begin()
        ours.guard.see(loss)
        ours.guard.check(ours, run.optimizers[0])
    finally:
        sys.setprofile(None)
    assert counted < 40
