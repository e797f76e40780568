"""Training steps whose task losses go through a balancer, under automatic optimisation."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from tl.backbones.base import last_block, stages_of
from tl.balancing.base import Backward, Balancer, MicroBatch, NonFiniteError
from tl.balancing.scalarization import LossWeighting
from tl.data.images.resident import mixed_seed
from tl.modules.base import Outputs, SharedBackboneModule
from tl.modules.batch import AnyBatch, by_source, source_of


class BalancedModule(SharedBackboneModule):
    """A shared backbone whose tasks are balanced; without a balancer, their plain sum.

    Attributes:
        balancer: The balancer, or ``None``.
    """

    balancer: Balancer | None
    _micro_batch: MicroBatch | None = None
    _batches: list[AnyBatch]  # of the present step, where the balancer looks at them again
    _penalty: Tensor | None = None
    _graphs: dict[str, str | None]
    _stepped = False
    _before: dict[str, Any] | None = None

    def use_balancer(self, balancer: Balancer | None) -> None:
        """Balance the tasks from now on; to be called once, in the constructor."""
        self.balancer = balancer
        self._batches = []
        if balancer is None:
            return
        # DDP wants a gradient of each parameter, and copies buffers from the first process
        lazy = [name for name, _ in balancer.named_buffers()]
        self._ddp_params_and_buffers_to_ignore = [
            f"balancer.{name}" for name in [*balancer.private_parameters(), *lazy]
        ]

    def setup(self, stage: str) -> None:
        """Check the data against the heads, and whether the strategy can be balanced."""
        super().setup(stage)
        strategy = self.trainer.strategy
        if (
            stage == "fit"
            and self.balancer is not None
            and not isinstance(strategy, SingleDeviceStrategy | DDPStrategy)
        ):
            raise ValueError(
                "`balancer` works on one device or with DDP, not with "
                f"{type(strategy).__name__}: it needs whole gradients in each process."
            )
        if self.balancer is not None and hasattr(self.balancer.method, "update_accuracy"):
            other = [name for name, task in self.trained_tasks.items() if task.accuracy is None]
            if other:
                raise ValueError(
                    f"{self.balancer.name} weights tasks by their accuracy, which "
                    f"{', '.join(other)} have not; choose another balancer."
                )
        warmup = 0 if self.balancer is None else getattr(self.balancer.method, "warmup_epochs", 0)
        epochs = self.trainer.max_epochs or 0
        if stage == "fit" and self.balancer is not None and 0 < epochs <= warmup:
            rank_zero_warn(
                f"{self.balancer.name} warms up for {warmup} epochs and the run has {epochs}: it "
                "trains on the warm-up's loss throughout. Lower `warmup_epochs` or train longer."
            )

    # The step

    def on_train_batch_start(self, batch: AnyBatch, batch_idx: int) -> None:
        """Keep the balancer as it is, where the coming step may be skipped."""
        super().on_train_batch_start(batch, batch_idx)
        first = batch_idx % self.trainer.accumulate_grad_batches == 0
        if first:
            self._batches = []
        if self.balancer is not None and self.guard.action == "skip" and first:
            self._before = copy.deepcopy(self.balancer.state_dict())

    def forget_step(self, tasks: Iterable[str]) -> None:
        """Put the balancer back to what it was before a step that is not taken."""
        super().forget_step(tasks)
        self._micro_batch = self._penalty = None
        self._batches = []
        if self.balancer is not None:
            self.balancer.drop_step()
            if self._before:
                self.balancer.load_state_dict(self._before)

    def training_loss(self, batch: AnyBatch, losses: dict[str, Tensor], outputs: Outputs) -> Tensor:
        """Combine the tasks' losses by the balancer, or add them."""
        if self.balancer is None:
            return super().training_loss(batch, losses, outputs)
        if self.guard.broken:  # by an earlier micro-batch of this step
            return super().training_loss(batch, losses, outputs)
        self.balancer.begin(self.current_epoch)
        self._micro_batch = self._observed(losses, outputs)
        if isinstance(self.balancer, LossWeighting) and self.balancer.looks_again:
            self._batches.append(batch)
        parts = by_source(batch)
        self._graphs = {name: source_of(self.tasks[name], parts) for name in losses}
        try:
            return self.balancer.combine(self._micro_batch)
        except NonFiniteError as error:
            self.guard.broken = error.what
            return super().training_loss(batch, losses, outputs)

    def penalised(self, loss: Tensor, penalty: Tensor) -> Tensor:
        """Add penalties to a loss, and keep them apart for balancers that take gradients."""
        self._penalty = penalty if self.balancer is not None else None
        return super().penalised(loss, penalty)

    def _observed(self, losses: dict[str, Tensor], outputs: Outputs) -> MicroBatch:
        labelled, right = {}, {}
        for name, (output, target) in outputs.items():
            task = self.tasks[name]
            labelled[name] = task.present(target)
            tally = dict(zip(task.tallied, task.tally(output, target), strict=True))
            nothing = torch.zeros_like(labelled[name])
            right[name] = nothing if task.accuracy is None else tally[task.accuracy]
        return MicroBatch(
            losses=losses,
            labelled=labelled,
            right=right,
            step=self.global_step,
            seed=mixed_seed(
                "balance", int(os.environ.get("PL_GLOBAL_SEED", "0")), self.global_step
            ),
            total=self._total,
            scaled=self._scaler() is not None,
        )

    def _total(self, tensor: Tensor) -> Tensor:
        found: Tensor = self.trainer.strategy.reduce(tensor, reduce_op="sum")
        return found

    def _scaler(self) -> torch.amp.GradScaler | None:
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Backpropagate by way of the balancer.

        Clipping, accumulation, loss scaling and schedulers go on as Lightning does them: they
        work on what stands in ``.grad`` when the optimiser is about to step.
        """
        scaler = self._scaler()
        if self.guard.broken:
            self._break(scaler)
            return
        if self.balancer is None or self._micro_batch is None:
            super().backward(loss, *args, **kwargs)
            return
        penalty, self._penalty = self._penalty, None
        # Lightning's own question to itself; there is no public one
        last = not self.trainer.fit_loop._should_accumulate()  # noqa: SLF001
        stages = {
            stage: [p for module in modules for p in module.parameters() if self.trains(p)]
            for stage, modules in stages_of(self.backbone).items()
        }
        shared = {id(p) for p in self.backbone.parameters()}
        private = {id(p) for p in self.balancer.parameters()}
        run = Backward(
            batch=self._micro_batch,
            loss=loss,
            stages=stages,
            last_block=last_block(self.backbone, self.trains),
            own=[p for p in self.parameters() if self.trains(p) and id(p) not in shared | private],
            graphs=self._graphs,
            last=last,
            scale=float(scaler.get_scale()) if scaler is not None else 1.0,
            processes=self.trainer.world_size,
            penalty=penalty,
        )
        try:
            self.balancer.backward(run)
        except NonFiniteError as error:
            self.guard.broken = error.what
            self._break(scaler)
        self._micro_batch = None
        self._stepped = last

    def _break(self, scaler: torch.amp.GradScaler | None) -> None:
        """Let a loss scaler find that the step is broken: without any gradient it would raise."""
        if scaler is not None:
            parameter = next(p for p in self.parameters() if self.trains(p))
            parameter.grad = torch.full_like(parameter, torch.inf)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Lightning's hook
        """Step, then let methods that ask for it see the step's batches again.

        Here and not at the batch's end, where callbacks come first: a checkpoint that one of them
        saves must hold what the method has learned from the step.
        """
        super().optimizer_step(*args, **kwargs)
        batches, self._batches = self._batches, []
        if batches and isinstance(self.balancer, LossWeighting):
            # the step is taken; if losses stay so, the next one's first look says it
            with suppress(NonFiniteError):
                self.balancer.look_again(self._seen_again(batch) for batch in batches)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Log the weights in force."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self.balancer is not None and self._stepped and every and self.global_step % every == 0:
            self.step_log.add(self.trainer, self.balance())
        self._stepped = False
        super().on_train_batch_end(outputs, batch, batch_idx)

    def balance(self) -> dict[str, float]:
        """Return the weights in force, and the size of the update where it is known, by name."""
        balancer = self.balancer
        if balancer is None or balancer.weights is None:
            return {}
        weights = zip(balancer.tasks, balancer.weights.tolist(), strict=True)
        found = {
            f"balance/{task}/weight": value for task, value in weights if not math.isnan(value)
        }
        if balancer.ratio is not None:
            found["balance/update_ratio"] = float(balancer.ratio)
        return found

    @torch.no_grad()
    def _seen_again(self, batch: AnyBatch) -> MicroBatch:
        """Evaluate the losses of a batch after the step, without a trace in running statistics."""
        kept = [(buffer, buffer.clone()) for buffer in self.backbone.buffers()]
        with self.trainer.precision_plugin.forward_context():
            losses, outputs = self.task_losses(batch, smooth=True)
        for buffer, before in kept:
            buffer.copy_(before)
        return self._observed(losses, outputs)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Add what a balancer learns, which does not decay, to the groups of the optimiser."""
        groups = super().parameter_groups()
        learned: list[nn.Parameter] = []
        if self.balancer is not None:
            learned = self.balancer.learned_parameters()
        if learned:
            groups.append({"name": "balancer", "params": learned, "weight_decay": 0.0})
        return groups
