"""What a Trainer calls of a module: steps, hooks and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from tl.checkpoints.files import local_file, read_checkpoint
from tl.modules.base import SharedBackboneModule
from tl.modules.batch import AnyBatch, Outputs, source_of, to_predict
from tl.modules.evaluation import Split
from tl.modules.features import parameters_without_gradient
from tl.modules.losses import parameters_beside
from tl.modules.optimisation import build_optimisation
from tl.modules.overrides import check_overrides
from tl.modules.penalties import start_of
from tl.modules.run_checks import check_answers, check_fit, check_loaders
from tl.modules.saving import complete, restore
from tl.modules.seeding import run_seed, seed_step
from tl.modules.source_start import weights_follow
from tl.modules.twins import follow_twins, start_twins
from tl.optim.param_groups import named_groups
from tl.private.torch import keep_out_of_ddp
from tl.transfer.penalties.base import Step


class TrainerHooks(SharedBackboneModule):
    """Pass each call of the Trainer on to the collaborators that it concerns, in a fixed order."""

    _built_lr: float | None = None  # learning rate that the optimizer was built with

    # Steps

    def training_step(self, batch: AnyBatch, batch_idx: int) -> Tensor:
        """Return the sum of the tasks' losses and of the penalties."""
        seen: list[Step] | None = [] if self.penalties else None
        found = None if self.captured is None else self.captured(self, batch, batch_idx)
        if found is None:
            losses, outputs = self.task_losses(batch, smooth=True, seen=seen)
        else:
            losses, outputs, sums = found
        self.guard.see(losses)
        penalty = self.penalties.term(seen[0]) if seen else None
        if found is None:
            self.training_log.add(losses, outputs)
        else:
            self.training_log.take(sums)
        loss = self.training_loss(batch, losses, outputs, penalty)
        # a loss that overflows may have finite gradients; otherwise the factor is exactly 1
        loss = loss * (1 + 0 * loss.detach())
        several = self.run is not None and self.run.world_size > 1
        if several and (unused := parameters_beside(self, losses, self._left_out)):
            # DDP waits for a gradient of every parameter, and other processes may have the task
            loss = loss + 0.0 * torch.stack([p.sum() for p in unused]).sum()
        return loss

    def training_loss(
        self, batch: AnyBatch, losses: dict[str, Tensor], outputs: Outputs, penalty: Tensor | None
    ) -> Tensor:
        """Return what training minimises: the sum of the tasks' losses and of the penalties."""
        loss = self.total_loss(losses)
        return loss if penalty is None else loss + penalty

    def validation_step(self, batch: AnyBatch, batch_idx: int, dataloader_idx: int = 0) -> Outputs:
        """Evaluate a batch; return outputs and targets by task for callbacks."""
        return self._evaluation_step(batch, "val", dataloader_idx)

    def test_step(self, batch: AnyBatch, batch_idx: int, dataloader_idx: int = 0) -> Outputs:
        """Evaluate a batch; return outputs and targets by task for callbacks."""
        return self._evaluation_step(batch, "test", dataloader_idx)

    def _evaluation_step(self, batch: AnyBatch, split: Split, loader: int) -> Outputs:
        losses, outputs = self.task_losses(batch)
        self.evaluations.add(split, loader, losses, outputs)
        return outputs

    def predict_step(
        self, batch: AnyBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Return predictions, such as class probabilities, and sample indices ``(N,)`` by task.

        For a batch of inputs alone, the indices are positions in the batch.
        """
        parts = to_predict(batch, self.tasks.values())
        features = self.features({source: images for source, (images, _) in parts.items()})
        found = {}
        for name, task in self.tasks.items():
            source = source_of(task, parts)
            if source in parts:
                index = parts[source][1]
                output = self.output(name, features[source])
                index = next(iter(index.values())) if isinstance(index, dict) else index
                found[name] = (task.answer(output), index)
        return found

    # Before training

    def setup(self, stage: str) -> None:
        """Bring source, data, penalties and strategy together, before the optimizer and DDP."""
        check_overrides(self)
        if stage == "fit":
            self.training_log.clear()  # of a run that ended within an epoch
            self._built_lr = self.lr  # also where a subclass builds the optimizer
            self.source.restore(self)
            # they never change: DDP need not broadcast them at each step
            buffers = self.penalties.named_buffers(prefix="penalties")
            keep_out_of_ddp(self, [name for name, _ in buffers])
            if self.penalties and not self.source.begun:
                self.penalties.prepare(start_of(self))
            self.fine_tuning.setup(self)
            if not self.penalties:  # which may read any of them
                tasks = self.trained_tasks.values()
                self._left_out = set(parameters_without_gradient(self.backbone, tasks))
                keep_out_of_ddp(self, [f"backbone.{name}" for name in sorted(self._left_out)])
        self.source.order_heads(self)
        self.run_record.adopt(self, stage)
        self.target_check.setup(self, self.datamodule, stage)
        if stage == "fit":  # an evaluation's checkpoint may tell more about its data
            self.penalties.tell()
            check_fit(self)
            if self.compile_mode:
                self.penalties.check_compiled()
        if self.compile_mode and not self._compiled:
            # in place: names of weights stay, for checkpoints and transfer
            mode = None if self.compile_mode is True else self.compile_mode
            self.reader.compile(self.backbone, mode)
            self._compiled = True

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer over named groups, and its schedule over the Trainer's steps."""
        self._built_lr = self.lr
        return build_optimisation(self, self.parameter_groups())

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Sort the parameters into the optimizer's named groups."""
        groups = named_groups(self.backbone, self.heads)
        self.penalties.add_groups(groups, begun=self.source.begun)
        return groups

    def on_fit_start(self) -> None:
        """Log what was loaded from the source, at the start of the first training."""
        check_overrides(self)  # of `setup` too
        self.source.need()
        self.source.log(self)

    # While it trains

    def on_train_start(self) -> None:
        """Let penalties store the start, freeze what does not train yet, log what trains when."""
        check_loaders(self)
        if self.lr != self._built_lr:
            self.trainer.strategy.setup_optimizers(self.trainer)
        if not self.source.begun:
            start_twins(self)
        if self.penalties and not self.source.begun:
            self.penalties.start(start_of(self))
        first = self.source.begin()
        self.guard.start(self)
        self.run_seed = run_seed(self.trainer, self.run_seed)
        self.penalties.show(self.trainer)
        self.fine_tuning.begin(self, new_heads=first and not self.init_heads)
        if self.captured is not None:
            self.captured.begin(self)
        self.run_record.begin(self)

    def on_train_epoch_start(self) -> None:
        """Freeze and unfreeze stages for this epoch."""
        self.fine_tuning.begin_epoch(self)

    def on_train_batch_start(self, batch: AnyBatch, batch_idx: int) -> None:
        """Seed the step, store what a skipped step must restore, and set training modes."""
        seed_step(self.run_seed or 0, self.current_epoch, batch_idx, self.global_rank, self.device)
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.guard.begin()
        self.fine_tuning.begin_step()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Check that losses and gradients are finite, before gradients are clipped."""
        self.fine_tuning.drop_gradients()
        self.guard.check(self, optimizer)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Lightning's hook
        """Step, then let momentum twins follow, unless the step was skipped."""
        self._stepped = True
        super().optimizer_step(*args, **kwargs)
        if self.twins and self._stepped:
            follow_twins(self)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Log the means since the last time, every ``log_every_n_steps`` optimizer steps."""
        self.training_log.end_step(self)

    def on_train_epoch_end(self) -> None:
        """Log what the strategy did, and what the last steps of the epoch add."""
        if self.strategy is not None:
            self.log_dict(self.fine_tuning.values(self), sync_dist=True)
        self.training_log.end_epoch(self)

    def on_train_end(self) -> None:
        """Record the data that the weights now come from."""
        self.fine_tuning.end()
        self.run_record.end(self)
        if self.captured is not None:
            self.captured.end()

    # While it evaluates

    def on_validation_start(self) -> None:
        """Check weights and data, and restore statistics if a fused optimizer skipped a step."""
        self.source.need()
        check_loaders(self)
        self.evaluations.begin("val")
        self.guard.read(self)
        if self.trainer.state.fn == "validate":
            check_answers(self.tasks, self.datamodule)

    def on_test_start(self) -> None:
        """Check that there are weights to compute with, and that the data fit the heads."""
        self.source.need()
        check_loaders(self)
        check_answers(self.tasks, self.datamodule)
        self.evaluations.begin("test")

    def on_predict_start(self) -> None:
        """Check that there are weights to compute with, and that the data fit the heads."""
        self.source.need()
        check_loaders(self)
        check_answers(self.tasks, self.datamodule)

    def on_validation_epoch_end(self) -> None:
        """Log each task's loss and scores over the validation set of each loader."""
        self.evaluations.log(self, "val")

    def on_test_epoch_end(self) -> None:
        """Log each task's loss and scores over the test set of each loader."""
        self.evaluations.log(self, "test")

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record under ``tl``, in plain types, what the weights are; refuse non-finite ones."""
        complete(checkpoint, self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the provenance and, if the run resumes, its progress.

        Raises:
            ValueError: If the checkpoint has other tasks.
        """
        restore(self, checkpoint)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as torch's own
        """Load weights, which replace the source's."""
        found = super().load_state_dict(state_dict, *args, **kwargs)
        self.source.replaced()
        return found

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # Lightning's is a descriptor of its own
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,  # noqa: ANN401 - Lightning's signature
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,  # noqa: ANN401 - arguments of the constructor, as there
    ) -> Self:
        """Build a module from a checkpoint that is verified first; no code from it is executed.

        Lightning's own executes code from a URL, and from any file if
        ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD`` is set.

        Args:
            checkpoint_path: The checkpoint, or its URL.
            map_location: As in Lightning.
            hparams_file: As in Lightning.
            strict: As in Lightning.
            weights_only: Ignored: always true.
            **kwargs: As in Lightning.

        Raises:
            CheckpointError: If it is missing, damaged or unsafe.
        """
        del weights_only
        path = local_file(checkpoint_path)
        read_checkpoint(path)
        with weights_follow():
            loaded: Self = super().load_from_checkpoint(
                path, map_location, hparams_file, strict, weights_only=True, **kwargs
            )
        return loaded
