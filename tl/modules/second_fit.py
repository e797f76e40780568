"""A second `fit` of the same Trainer, which rebuilds optimizer and schedule."""

from __future__ import annotations

import warnings

from lightning.pytorch import Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau


def continue_from(trainer: Trainer, optimizer: Optimizer, config: dict[str, object]) -> None:
    """Bring a new optimizer and schedule to where those of the Trainer's last `fit` ended.

    Lightning continues counting epochs and steps, as after increasing `max_epochs`, but rebuilds
    the optimizer. Momentum is copied, and the schedule, which may span more steps now, advances to
    the step or epoch that the last one had reached. Neither happens if parameters or the type of
    optimizer or schedule differ; a checkpoint that the run resumes from replaces both.

    Args:
        trainer: The Trainer, before it receives the new optimizer.
        optimizer: The new optimizer.
        config: Lightning's configuration of the new schedule.
    """
    if not trainer.global_step or not trainer.optimizers or not trainer.lr_scheduler_configs:
        return
    last, before = trainer.optimizers[0], trainer.lr_scheduler_configs[0]
    if type(last) is not type(optimizer) or _parameters(last) != _parameters(optimizer):
        return
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({**last.state_dict(), "param_groups": groups})
    scheduler = config["scheduler"]
    if type(before.scheduler) is not type(scheduler) or before.interval != config["interval"]:
        return
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.load_state_dict(before.scheduler.state_dict())
        for group, old in zip(optimizer.param_groups, last.param_groups, strict=True):
            group["lr"] = old["lr"]
    elif isinstance(scheduler, LRScheduler):
        with warnings.catch_warnings():  # torch expects a step of the optimizer first
            warnings.simplefilter("ignore", UserWarning)
            for _ in range(before.scheduler.last_epoch):
                scheduler.step()


def _parameters(optimizer: Optimizer) -> list[list[int]]:
    return [[id(p) for p in group["params"]] for group in optimizer.param_groups]
