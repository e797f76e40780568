"""Restore what Lightning loses between a checkpoint and the step that follows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from tl.private.lightning import (
    STEPS_FOR_LOGGERS,
    count_steps_for_loggers,
    forget_restart,
    restart_within_evaluation,
    should_accumulate,
    validation_is_due,
)

# They only set what depends on the epoch, or remember the epoch in which they last acted.
_REPEATABLE = (GradientAccumulationScheduler, StochasticWeightAveraging)
_OURS = ("tl.", "lightning.")


def fit_progress(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return Lightning's counters of a training loop by name; empty if there are none."""
    found: dict[str, Any] = checkpoint.get("loops", {}).get("fit_loop", {})
    return found


def is_over(loop: Mapping[str, Any]) -> bool:
    """Return whether the counters are at the end of an epoch."""
    batches = loop.get("epoch_loop.batch_progress", {})
    current = batches.get("current", {})
    return bool(batches.get("is_last_batch") and current.get("ready") == current.get("processed"))


def stopped_within(loop: Mapping[str, Any]) -> bool:
    """Return whether a run that reached `max_steps` within an epoch has counted it as complete."""
    epoch = loop.get("epoch_progress", {}).get("current", {})
    batch = loop.get("epoch_loop.batch_progress", {}).get("current", {})
    counted = epoch.get("ready") == epoch.get("processed")
    return counted and bool(batch.get("processed")) and not is_over(loop)


class Resuming:
    """Bring a Trainer to the point where its checkpoint was saved, where Lightning does not.

    A run limited by ``max_steps`` would count its last epoch again, or take the rest of it for the
    next one. A plateau schedule advances after the checkpoint is written and would lose that
    update. A run saved at the end of a step would lose the validation and the log that follow; one
    saved before a batch would count that batch twice. And callbacks are not notified of the start
    of an epoch in which the run resumes.

    Args:
        checkpoint: The checkpoint; its counters are changed in place.
        trainer: The Trainer, before it restores them.
    """

    def __init__(self, checkpoint: Mapping[str, Any], trainer: Trainer) -> None:
        loop = fit_progress(checkpoint)
        epoch = loop.get("epoch_progress", {})
        current = epoch.get("current", {})
        batches = loop.get("epoch_loop.batch_progress", {})
        self._metrics: dict[str, Tensor] = checkpoint.get("tl", {}).get("metrics", {})
        # such a limit ends the epochs of data without length
        limit: Any = trainer.limit_train_batches
        whole = isinstance(limit, int) and batches.get("current", {}).get("processed") == limit
        self._within = stopped_within(loop) and not whole
        self._between = is_over(loop) and current["ready"] == current["processed"]
        if _updates_statistics(trainer, current):
            for part in epoch.values():  # repeat it: it updates nothing else
                part.update(dict.fromkeys(part, part["processed"]))
            self._between = True
        # saved before the updates that follow an epoch, or a step
        self._epoch_due = self._between and current["completed"] < current["processed"]
        batch = batches.get("current", {})
        if batch.get("ready", 0) > batch.get("processed", 0):  # saved before a batch
            # Lightning takes it for trained, and counts its step when it resumes
            whole = batch["ready"] % trainer.accumulate_grad_batches == 0
            counted = (whole or batches["is_last_batch"]) and not self._between
            steps = int(checkpoint["global_step"]) - counted
            loop["epoch_loop.state_dict"][STEPS_FOR_LOGGERS] = steps
        self._step_due = batch.get("completed", 0) < batch.get("processed", 0)
        if self._step_due:
            for part in (batch, batches["total"]):
                part["completed"] = part["processed"]
        if self._within:
            for part in epoch.values():
                part["processed"] -= 1
                part["completed"] = part["processed"]
        elif self._between:
            self._step_due = False
            for part in epoch.values():
                part["completed"] = part["processed"]
            nothing = dict.fromkeys(batch, 0)
            batches.update(current=nothing, is_last_batch=False)

    def begin(self, trainer: Trainer, module: LightningModule) -> None:
        """Do what remains, after Lightning has set up its loops and before they train."""
        loop = trainer.fit_loop
        steps = loop.epoch_loop
        # a batch that was only fetched is fetched again; counted twice, validations by batches of
        # the run would come a batch early from here on
        batches = steps.batch_progress.total
        batches.ready = batches.completed
        # for schedules and early stopping, if no validation follows at once
        trainer.callback_metrics.update(
            {name: value.to(module.device) for name, value in self._metrics.items()}
        )
        if self._between:
            steps.restarting = False
            validates = False
        else:
            validates = validation_is_due(loop)
        if self._within and validates:
            # the loop skips the validation that was done, and counts this step again
            count_steps_for_loggers(loop, -1)
        # otherwise Lightning omits a plateau schedule's update at the end of this epoch
        forget_restart(loop)
        if self._epoch_due:
            self._update_plateaus(trainer, "epoch", trainer.current_epoch)
        if self._step_due:
            self._end_step(trainer, module, validates=validates)
        if loop.restarted_mid_epoch and not is_over(loop.state_dict()):
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                _start_epoch(callback, trainer, module)

    def _end_step(self, trainer: Trainer, module: LightningModule, *, validates: bool) -> None:
        """Do what follows a step once callbacks have seen its end: log, validate, schedule."""
        steps = trainer.fit_loop.epoch_loop
        module.on_train_batch_end(None, None, steps.batch_idx)
        if validates:  # as if a validation had been interrupted; the loop then continues by itself
            restart_within_evaluation(steps.val_loop)
            steps.val_loop.restarting = False
            return
        if not should_accumulate(trainer.fit_loop):
            self._update_plateaus(trainer, "step", steps.batch_idx + 1)
            count_steps_for_loggers(trainer.fit_loop, 1)
        if steps.batch_progress.is_last_batch:
            loop = trainer.fit_loop
            loop.on_advance_end()
            loop.reset_restart_stage()
            steps.restarting = False

    @staticmethod
    def _update_plateaus(trainer: Trainer, interval: str, number: int) -> None:
        for config in trainer.lr_scheduler_configs:
            due = config.reduce_on_plateau and config.interval == interval
            if due and number % config.frequency == 0:
                value = trainer.callback_metrics.get(str(config.monitor))
                if value is not None:
                    trainer.lightning_module.lr_scheduler_step(config.scheduler, value)


def _updates_statistics(trainer: Trainer, epoch: Mapping[str, int]) -> bool:
    """Return whether a run stopped in the epoch that updates statistics for averaged weights."""
    callbacks: list[object] = trainer.callbacks  # type: ignore[attr-defined]
    averages = any(isinstance(each, StochasticWeightAveraging) for each in callbacks)
    begun = epoch.get("ready", 0) > epoch.get("processed", 0)
    return averages and begun and epoch["processed"] == trainer.max_epochs


def _start_epoch(callback: Callback, trainer: Trainer, module: LightningModule) -> None:
    kind = type(callback)
    if isinstance(callback, _REPEATABLE):
        callback.on_train_epoch_start(trainer, module)
    elif kind.on_train_epoch_start is not Callback.on_train_epoch_start and not (
        kind.__module__.startswith(_OURS)
    ):
        rank_zero_warn(
            f"{kind.__name__} acts at the start of an epoch, but this run resumes within one: it "
            "is not called before the next. If it changes training, the run differs from an "
            "uninterrupted one; implement `on_train_start` too."
        )


def metrics_at(trainer: Trainer) -> dict[str, Tensor]:
    """Return the latest value of each metric, to be saved for callbacks and schedules."""
    return {name: value.detach().cpu() for name, value in trainer.callback_metrics.items()}
