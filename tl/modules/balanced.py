"""Training steps with a balancer, under automatic optimization."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from tl.backbones.base import last_block, stages_of
from tl.balancing.base import Balancer, NonFiniteError
from tl.balancing.independent import IndependentBatches
from tl.balancing.passes import Backward, MicroBatch
from tl.balancing.scalarization import LossWeighting
from tl.counting import counted
from tl.data.images.resident import mixed_seed
from tl.modules.batch import AnyBatch, Outputs, by_source, source_of
from tl.modules.finite import FiniteGuard
from tl.modules.optimisation import scaler_of
from tl.private.lightning import should_accumulate

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule


@dataclass(frozen=True)
class _Pending:
    """What the backward pass needs to know about its losses."""

    batch: MicroBatch
    graphs: Mapping[str, str | None]
    penalty: Tensor | None


class BalancedStep:
    """Passes losses to a balancer, and its gradients to the optimizer.

    Clipping, accumulation, loss scaling and schedulers remain Lightning's: they work on ``.grad``
    right before the optimizer steps.

    Args:
        balancer: The balancer.
        guard: Receives what the balancer finds to be non-finite.
    """

    def __init__(self, balancer: Balancer, guard: FiniteGuard) -> None:
        self._balancer = balancer
        self._guard = guard
        self._pending: _Pending | None = None
        self._batches: list[AnyBatch] = []  # of this step, if the balancer evaluates them again
        self._before: dict[str, Any] = {}  # its state before a step that may be skipped
        self._stepped = False

    def ignored_by_ddp(self) -> list[str]:
        """Return the names of parameters and buffers that DDP must not synchronise."""
        lazy = [name for name, _ in self._balancer.named_buffers()]
        return [f"balancer.{name}" for name in [*self._balancer.private_parameters(), *lazy]]

    def check(self, module: SharedBackboneModule, stage: str) -> None:
        """Check that strategy, tasks and length of a run suit the balancer.

        Raises:
            ValueError: If they do not.
        """
        strategy, balancer = module.trainer.strategy, self._balancer
        if stage == "fit" and not isinstance(strategy, SingleDeviceStrategy | DDPStrategy):
            raise ValueError(
                "`balancer` works on one device or with DDP, not with "
                f"{type(strategy).__name__}: it needs whole gradients in each process."
            )
        if hasattr(balancer.method, "update_accuracy"):
            other = [name for name, task in module.trained_tasks.items() if not task.right_or_wrong]
            if other:
                verb = "does" if len(other) == 1 else "do"
                raise ValueError(
                    f"{balancer.name} weights tasks by their accuracy, which "
                    f"{', '.join(other)} {verb} not have; choose another balancer."
                )
        if stage == "fit" and not _accumulates_by_epoch(module.trainer):
            self._check_batches(module.trainer)
        warmup = getattr(balancer.method, "warmup_epochs", 0)
        epochs = module.trainer.max_epochs or 0
        if stage == "fit" and 0 < epochs <= warmup:
            rank_zero_warn(
                f"{balancer.name} warms up for {counted(warmup, 'epoch')}, but the run has "
                f"{epochs}: it "
                "uses the warm-up's loss throughout. Decrease `warmup_epochs` or train longer."
            )

    def _check_batches(self, trainer: Trainer, epoch: float = math.inf) -> None:
        method, there = self._balancer.method, trainer.accumulate_grad_batches
        if not isinstance(method, IndependentBatches) or method.batches <= min(there, epoch):
            return
        reads = f"{self._balancer.name} reads {method.batches} independent batches in each step"
        if there < method.batches:
            raise ValueError(
                f"{reads}, and a step has {there}; set `trainer.accumulate_grad_batches` to "
                f"{method.batches} or a multiple."
            )
        raise ValueError(f"{reads}, and an epoch has {epoch}; take smaller batches, or more data.")

    # The step

    def start(self) -> None:
        """Drop what a step has accumulated that was never finished, as in an interrupted run."""
        self._pending = None
        self._batches = []
        self._before = {}
        self._balancer.drop_step()

    def begin(self, module: SharedBackboneModule, batch_idx: int) -> None:
        """Copy the balancer's state if the coming step may be skipped."""
        if batch_idx % module.trainer.accumulate_grad_batches == 0:
            self._check_batches(module.trainer, module.trainer.num_training_batches)
            self.start()
            if self._guard.action == "skip":
                self._before = copy.deepcopy(self._balancer.state_dict())

    def forget(self) -> None:
        """Restore the balancer to its state before a step that is not taken."""
        before = self._before
        self.start()
        if before:
            self._balancer.load_state_dict(before)

    def combine(
        self,
        module: SharedBackboneModule,
        batch: AnyBatch,
        losses: dict[str, Tensor],
        outputs: Outputs,
        penalty: Tensor | None,
    ) -> Tensor | None:
        """Combine the tasks' losses; return ``None`` in a non-finite step.

        Args:
            module: The module.
            batch: The batch.
            losses: Scalar loss by task.
            outputs: Outputs and targets by task.
            penalty: Sum of the penalties; balancers that aggregate gradients treat it separately.
        """
        self._pending = None
        if self._guard.broken:  # by an earlier micro-batch of this step
            return None
        self._balancer.begin(module.current_epoch)
        seen = _observed(module, losses, outputs)
        if isinstance(self._balancer, LossWeighting) and self._balancer.looks_again:
            self._batches.append(batch)
        parts = by_source(batch)
        graphs = {name: source_of(module.tasks[name], parts) for name in losses}
        try:
            loss = self._balancer.combine(seen)
        except NonFiniteError as error:
            self._guard.broken = error.what
            return None
        self._pending = _Pending(seen, graphs, penalty)
        return loss

    def backward(self, module: SharedBackboneModule, loss: Tensor) -> bool:
        """Backpropagate through the balancer; return whether that was done."""
        scaler = scaler_of(module.trainer)
        if self._guard.broken:
            _break(module, scaler)
            return True
        pending, self._pending = self._pending, None
        if pending is None:
            return False
        last = not should_accumulate(module.trainer.fit_loop)
        shared = {
            stage: [p for part in parts for p in part.parameters()]
            for stage, parts in stages_of(module.backbone).items()
        }
        stages = {stage: [p for p in found if module.trains(p)] for stage, found in shared.items()}
        # attention of a task in the backbone is as little shared as its head
        other = {id(p) for found in shared.values() for p in found}
        other |= {id(p) for p in self._balancer.parameters()}
        run = Backward(
            batch=pending.batch,
            loss=loss,
            stages=stages,
            last_block=last_block(module.backbone, module.trains),
            own=[p for p in module.parameters() if module.trains(p) and id(p) not in other],
            graphs=pending.graphs,
            last=last,
            scale=float(scaler.get_scale()) if scaler is not None else 1.0,
            processes=module.trainer.world_size,
            penalty=pending.penalty,
        )
        try:
            self._balancer.backward(run)
        except NonFiniteError as error:
            self._guard.broken = error.what
            _break(module, scaler)
        self._stepped = last
        return True

    def look_again(self, module: SharedBackboneModule) -> None:
        """Let methods that need it evaluate the batches of a step again, after the step.

        Not at the end of the batch, where callbacks run first: a checkpoint that one of them saves
        must contain what the method has learned from the step.
        """
        batches, self._batches = self._batches, []
        if batches and isinstance(self._balancer, LossWeighting):
            # the step is taken already; the next one reports a loss that stays non-finite
            with suppress(NonFiniteError):
                self._balancer.look_again(_seen_again(module, batch) for batch in batches)

    def end(self, trainer: Trainer) -> dict[str, float]:
        """Return what to log at the end of a step; empty if logging is not due."""
        stepped, self._stepped = self._stepped, False
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        return self.values() if stepped and every and trainer.global_step % every == 0 else {}

    def values(self) -> dict[str, float]:
        """Return current weights and, if known, the relative size of the update, by metric name."""
        balancer = self._balancer
        if balancer.weights is None:
            return {}
        weights = zip(balancer.tasks, balancer.weights.tolist(), strict=True)
        found = {
            f"balance/{task}/weight": value for task, value in weights if not math.isnan(value)
        }
        if balancer.ratio is not None:
            found["balance/update_ratio"] = float(balancer.ratio)
        return found


def _observed(
    module: SharedBackboneModule, losses: dict[str, Tensor], outputs: Outputs
) -> MicroBatch:
    labelled, right = {}, {}
    for name, (output, target) in outputs.items():
        task = module.tasks[name]
        labelled[name] = task.present(target)
        none = torch.zeros_like(labelled[name])
        right[name] = task.right(output, target) if task.right_or_wrong else none
    trainer = module.trainer

    def total(tensor: Tensor) -> Tensor:
        found: Tensor = trainer.strategy.reduce(tensor, reduce_op="sum")
        return found

    return MicroBatch(
        losses=losses,
        labelled=labelled,
        right=right,
        step=module.global_step,
        seed=mixed_seed("balance", module.run_seed or 0, module.global_step),
        total=total,
        scaled=scaler_of(trainer) is not None,
    )


def _accumulates_by_epoch(trainer: Trainer) -> bool:
    """Tell whether the number of accumulated batches is set when an epoch starts."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return any(isinstance(callback, GradientAccumulationScheduler) for callback in callbacks)


def _seen_again(module: SharedBackboneModule, batch: AnyBatch) -> MicroBatch:
    """Evaluate the losses of a batch after the step, and leave running statistics unchanged."""
    trainer = module.trainer
    kept = [(buffer, buffer.clone()) for buffer in module.buffers()]
    # two views are compared with those of other processes where gradients are computed
    grad = torch.set_grad_enabled(trainer.world_size > 1)
    with grad, trainer.precision_plugin.forward_context():
        losses, outputs = module.task_losses(batch, smooth=True)
    for buffer, before in kept:
        buffer.copy_(before)
    return _observed(module, losses, outputs)


def _break(module: SharedBackboneModule, scaler: torch.amp.GradScaler | None) -> None:
    """Give a loss scaler a non-finite gradient; it raises if there is none at all."""
    if scaler is not None:
        parameter = next(p for p in module.parameters() if module.trains(p))
        parameter.grad = torch.full_like(parameter, torch.inf)
