"""The optimizer and its schedule over the length of the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LRSchedulerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim.lr_scheduler import ConstantLR, ReduceLROnPlateau

from tl.modules.direction import check_direction
from tl.modules.fine_tuning import lr_scales
from tl.modules.second_fit import continue_from
from tl.optim.optimizers import fused, keep_kernel
from tl.optim.param_groups import keep_learning_rates, scale_learning_rates
from tl.optim.schedule import build_schedule, refuse_changing_steps

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule

Interval = Literal["step", "epoch"]


def check_interval(interval: str | None, scheduler: LRSchedulerCallable | None) -> None:
    """Refuse an unknown unit, or one without a schedule.

    Raises:
        ValueError: If it is unknown or there is no schedule.
    """
    if interval not in (None, "step", "epoch"):
        raise ValueError(f"`scheduler_interval` must be step or epoch, got {interval!r}.")
    if interval is not None and scheduler is None:
        raise ValueError("`scheduler_interval` is the unit of `scheduler`, which is not set.")


def build_optimisation(
    module: SharedBackboneModule, groups: list[dict[str, Any]]
) -> OptimizerLRScheduler:
    """Build a module's optimizer over named groups, and its schedule over the Trainer's steps."""
    optimizer, trainer = module.optimizer_factory(groups), module.run
    if module.lr is not None:
        for group in optimizer.param_groups:
            group["lr"] = module.lr
    if trainer is None or scaler_of(trainer) is None:
        # a fused optimizer would unscale gradients itself, after they were clipped
        optimizer = fused(optimizer)
    keep_kernel(optimizer)
    if scales := lr_scales(module):
        scale_learning_rates(optimizer, scales)
    # a schedule that changes nothing, so that learning rates are logged as for any other
    factory = module.scheduler_factory or partial(ConstantLR, factor=1.0, total_iters=0)
    module.fine_tuning.begin_strategy(module, lambda: count_epochs(trainer))
    config, whole_run = build_schedule(
        cast("Callable[..., Any]", factory),
        optimizer,
        lambda: _count_steps(module.trainer),
        lambda: _probe_steps(module),
        lambda: count_epochs(trainer) or 0,
        module.scheduler_interval,
    )
    scheduler = config["scheduler"]
    if scales:
        keep_learning_rates(optimizer, scales, type(scheduler).__name__)
    if trainer is not None:
        refuse_changing_steps(trainer, factory, scheduler, filled=whole_run)
    if isinstance(scheduler, ReduceLROnPlateau):
        monitor = config.setdefault("monitor", getattr(scheduler, "monitor", "val/loss"))
        check_direction(monitor, scheduler.mode, "the schedule ReduceLROnPlateau")
        if trainer is not None:  # without validation there is no metric
            _check_plateau(trainer, monitor, config)
            config.setdefault("frequency", trainer.check_val_every_n_epoch or 1)
    if trainer is not None:
        continue_from(trainer, optimizer, config)
    return cast("OptimizerLRScheduler", {"optimizer": optimizer, "lr_scheduler": config})


def _check_plateau(trainer: Trainer, monitor: str, config: Mapping[str, Any]) -> None:
    """Refuse a plateau schedule per epoch whose metric is not computed in every epoch.

    Raises:
        ValueError: If validation does not run at the end of epochs.
    """
    said = "frequency" in config or config["interval"] == "step"
    if trainer.check_val_every_n_epoch is None and monitor.startswith("val/") and not said:
        raise ValueError(
            f"ReduceLROnPlateau advances per epoch, but `{monitor}` is not computed in every epoch "
            "with `check_val_every_n_epoch: null`; set `trainer.check_val_every_n_epoch` to 1 or "
            "more, with a `val_check_interval` within an epoch if needed."
        )


# The length of the run


def _count_steps(trainer: Trainer) -> int:
    steps = trainer.estimated_stepping_batches
    if not 0 < steps < float("inf"):
        raise ValueError(
            f"The schedule needs the length of the run, which is {steps} steps; set "
            "`max_epochs` or `max_steps`, or set `total_steps` of the schedule."
        )
    return int(steps)


def _probe_steps(module: SharedBackboneModule) -> int | None:
    """Count the steps before the strategy first unfreezes a stage."""
    strategy = module.strategy
    changes = strategy.changes(list(module.stages())) if strategy is not None else []
    if not changes:
        return None
    steps = _steps_of_an_epoch(module.trainer)
    return None if steps is None else changes[0] * steps


def _steps_of_an_epoch(trainer: Trainer) -> int | None:
    trainer.fit_loop.setup_data()
    batches = trainer.num_training_batches
    if not math.isfinite(batches):
        return None
    return math.ceil(batches / trainer.accumulate_grad_batches)


def count_epochs(trainer: Trainer | None) -> int | None:
    """Return the number of epochs of the run by its earliest limit; ``None`` without a limit."""
    if trainer is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    limits = [trainer.max_epochs or -1]
    if trainer.max_steps > 0 and (steps := _steps_of_an_epoch(trainer)):
        limits.append(math.ceil(trainer.max_steps / steps))
    return min((limit for limit in limits if limit > 0), default=None)


def scaler_of(trainer: Trainer) -> torch.amp.GradScaler | None:
    """Return the loss scaler of a Trainer, which 16-bit precision has."""
    return getattr(trainer.precision_plugin, "scaler", None)
