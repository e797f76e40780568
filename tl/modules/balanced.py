"""A training step whose task losses go through a balancer, under automatic optimisation."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from tl.backbones.base import last_block, stages_of
from tl.balancing.base import Backward, Balancer, MicroBatch, NonFiniteError
from tl.balancing.scalarization import LossWeighting
from tl.data.images.resident import mixed_seed
from tl.modules.batch import AnyBatch, Outputs, by_source, source_of
from tl.modules.finite import FiniteGuard
from tl.private.lightning import should_accumulate

if TYPE_CHECKING:
    from tl.modules.base import SharedBackboneModule


@dataclass(frozen=True)
class _Pending:
    """What the backward pass must know of the losses that it starts from."""

    batch: MicroBatch
    graphs: Mapping[str, str | None]
    penalty: Tensor | None


class BalancedStep:
    """Brings losses to a balancer, and its gradients to the optimiser.

    Clipping, accumulation, loss scaling and schedulers stay Lightning's: they work on what stands
    in ``.grad`` when the optimiser is about to step.

    Args:
        balancer: The balancer.
        guard: Told what a balancer finds not finite.
    """

    def __init__(self, balancer: Balancer, guard: FiniteGuard) -> None:
        self._balancer = balancer
        self._guard = guard
        self._pending: _Pending | None = None
        self._batches: list[AnyBatch] = []  # of this step, where the balancer looks at them again
        self._before: dict[str, Any] = {}  # its state before a step that may be skipped
        self._stepped = False

    def ignored_by_ddp(self) -> list[str]:
        """Return what has no gradient that DDP could wait for, or no value to copy, by name."""
        lazy = [name for name, _ in self._balancer.named_buffers()]
        return [f"balancer.{name}" for name in [*self._balancer.private_parameters(), *lazy]]

    def check(self, module: SharedBackboneModule, stage: str) -> None:
        """See that strategy, tasks and length of a run can be balanced.

        Raises:
            ValueError: If they cannot.
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
                verb = "has" if len(other) == 1 else "have"
                raise ValueError(
                    f"{balancer.name} weights tasks by their accuracy, which "
                    f"{', '.join(other)} {verb} not; choose another balancer."
                )
        warmup = getattr(balancer.method, "warmup_epochs", 0)
        epochs = module.trainer.max_epochs or 0
        if stage == "fit" and 0 < epochs <= warmup:
            rank_zero_warn(
                f"{balancer.name} warms up for {warmup} epochs and the run has {epochs}: it "
                "trains on the warm-up's loss throughout. Lower `warmup_epochs` or train longer."
            )

    # The step

    def begin(self, module: SharedBackboneModule, batch_idx: int) -> None:
        """Keep the balancer as it is, where the coming step may be skipped."""
        if batch_idx % module.trainer.accumulate_grad_batches == 0:
            self._batches = []
            if self._guard.action == "skip":
                self._before = copy.deepcopy(self._balancer.state_dict())

    def forget(self) -> None:
        """Put the balancer back to what it was before a step that is not taken."""
        self._pending = None
        self._batches = []
        self._balancer.drop_step()
        if self._before:
            self._balancer.load_state_dict(self._before)

    def combine(
        self,
        module: SharedBackboneModule,
        batch: AnyBatch,
        losses: dict[str, Tensor],
        outputs: Outputs,
        penalty: Tensor | None,
    ) -> Tensor | None:
        """Combine the tasks' losses; ``None`` in a step that is broken.

        Args:
            module: The module.
            batch: The batch.
            losses: Scalar loss by task.
            outputs: Outputs and targets by task.
            penalty: What is added to the loss beside the tasks'; balancers that take gradients
                keep it apart.
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
        """Backpropagate by way of the balancer; returns whether that was done."""
        scaler = _scaler(module.trainer)
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
        """Let methods that ask for it see the batches of a step that is taken again.

        Not at the batch's end, where callbacks come first: a checkpoint that one of them saves
        must hold what the method has learned from the step.
        """
        batches, self._batches = self._batches, []
        if batches and isinstance(self._balancer, LossWeighting):
            # the step is taken; if losses stay so, the next one's first look says it
            with suppress(NonFiniteError):
                self._balancer.look_again(_seen_again(module, batch) for batch in batches)

    def end(self, trainer: Trainer) -> dict[str, float]:
        """Return what is to be logged of a step, at its end; empty where it is not due."""
        stepped, self._stepped = self._stepped, False
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        return self.values() if stepped and every and trainer.global_step % every == 0 else {}

    def values(self) -> dict[str, float]:
        """Return the weights in force, and the size of the update where it is known, by name."""
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

    seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))
    return MicroBatch(
        losses=losses,
        labelled=labelled,
        right=right,
        step=module.global_step,
        seed=mixed_seed("balance", seed, module.global_step),
        total=total,
        scaled=_scaler(trainer) is not None,
    )


@torch.no_grad()
def _seen_again(module: SharedBackboneModule, batch: AnyBatch) -> MicroBatch:
    """Evaluate the losses of a batch after the step, without a trace in running statistics."""
    kept = [(buffer, buffer.clone()) for buffer in module.backbone.buffers()]
    with module.trainer.precision_plugin.forward_context():
        losses, outputs = module.task_losses(batch, smooth=True)
    for buffer, before in kept:
        buffer.copy_(before)
    return _observed(module, losses, outputs)


def _scaler(trainer: Trainer) -> torch.amp.GradScaler | None:
    return getattr(trainer.precision_plugin, "scaler", None)


def _break(module: SharedBackboneModule, scaler: torch.amp.GradScaler | None) -> None:
    """Let a loss scaler find that the step is broken: without any gradient it would raise."""
    if scaler is not None:
        parameter = next(p for p in module.parameters() if module.trains(p))
        parameter.grad = torch.full_like(parameter, torch.inf)
