"""The one step that training, validation and test share, around a backbone with heads."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from tl.backbones.streams import beside_heads, shared_part
from tl.batch import Inputs
from tl.checkpoints.files import local_file, read_checkpoint
from tl.modules.batch import AnyBatch, by_source, source_of, target_of, to_predict
from tl.modules.checkpointed import RunRecord, class_names
from tl.modules.evaluation import Evaluations, Split
from tl.modules.features import FeatureReader, Features, check_num_features, head_of, name_tasks
from tl.modules.fine_tuning import FineTuning
from tl.modules.finite import FiniteGuard, OnNonFinite
from tl.modules.foreign import TargetCheck
from tl.modules.hyperparameters import arguments_of
from tl.modules.optimisation import Interval, Optimisation, check_interval
from tl.modules.owner import Outputs
from tl.modules.penalties import Penalties, PenaltyTerms, attached, start_of
from tl.modules.run_checks import check_answers, check_monitors, refuse_batch_size_search
from tl.modules.seeding import StepSeeds
from tl.modules.settled import ARGUMENTS, check_tasks, set_later
from tl.modules.source_start import SourceStart, weights_follow
from tl.modules.step_log import StepLog
from tl.modules.training_log import TrainingLog
from tl.optim.param_groups import named_groups
from tl.private.lightning import CURRENT_HOOK
from tl.private.torch import drop_functions, keep_out_of_ddp
from tl.tasks import Task, owners, trained_tasks
from tl.transfer.freezing import Strategy, stage_modules
from tl.transfer.penalties.base import Step
from tl.transfer.weights import TransferReport

CompileMode = bool | Literal["reduce-overhead", "max-autotune"]
COMPILE_MODES = (False, True, "reduce-overhead", "max-autotune")


def default_optimizer(parameters: Iterable[Any]) -> torch.optim.Optimizer:
    """SGD with a learning rate of 0.1, Nesterov momentum of 0.9 and weight decay of 5e-4."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)


class SharedBackboneModule(LightningModule):
    """A backbone, a head per task, and the order in which a run calls what it is made of.

    Subclasses say how features come from a batch of one or several sources. They pass on the
    arguments that all of them have by keyword: here is where these are written.

    Args:
        backbone: Images ``(N, 3, H, W)`` to features ``(N, num_features)``: any module with an
            integer attribute ``num_features``.
        tasks: What to predict.
        init_from: Checkpoint of a source whose weights the backbone starts from: one of this
            framework, a plain state dict, or safetensors. Not for resuming a run: that is
            ``ckpt_path``.
        rename: Beginnings of names in that checkpoint and what they are called in the backbone.
        reinit: Beginnings of names in the backbone that keep their random start.
        init_heads: Let the heads, too, start from that checkpoint where it has a task of the same
            name, as when a task is added to a network that had fewer; the others start anew.
        strategy: What trains when, at which share of the learning rate, and what batch norm does,
            such as ``tl.transfer.LinearProbe``. Without one, everything trains.
        penalties: Terms that add up to the loss, such as ``tl.transfer.penalties.L2SP``; one, or
            a list. No balancer weights or aggregates them: their gradient is added to its update.
        optimizer: Makes the optimiser from parameter groups. Norms and biases never decay.
        scheduler: Makes the learning-rate schedule from the optimiser; ``total_steps`` is filled
            in from the Trainer for schedules that take it.
        scheduler_interval: Whether the schedule advances every ``step`` or ``epoch``. By default
            its class tells; where that does not fit the length of the run, the run asks for it.
        label_smoothing: Share of the target spread over all classes, 0 to below 1 (Szegedy et
            al., 2016, section 7), in training only.
        channels_last: Keep weights in channels-last memory, faster for convolutions.
        compile: Compile the backbone with `torch.compile` (its first steps take minutes on a CPU);
            ``reduce-overhead`` uses CUDA graphs, for small networks, ``max-autotune`` searches for
            the fastest kernels. Checkpoints are those of the network that is not compiled.
        on_nonfinite: What to do before a step whose loss or gradient is not finite: ``stop``, or
            ``skip`` it and count it as ``train/skipped_steps``. Either way nothing moves.
        max_skips: Steps in a row that may be skipped; one more stops.

    Attributes:
        backbone: Images ``(N, 3, H, W)`` to features ``(N, num_features)``.
        heads: Features to what the task wants, such as logits ``(N, num_classes)``, by task; see
            :meth:`head_of` for tasks that share one.
        tasks: The tasks by name, in a fixed order.
        guard: Keeps steps that are not finite from moving anything.
        lr: Learning rate in place of the optimiser's own, for all stages before their scales;
            Lightning's learning-rate finder sets it. ``None`` by default.

    Raises:
        ValueError: If the backbone lacks ``num_features`` or an argument is out of range.
    """

    strategy: Strategy | None = None
    _built = False  # the constructor is done: arguments that are set from here on are checked

    def __init__(
        self,
        backbone: nn.Module,
        tasks: Sequence[Task | dict[str, Any]],
        *,
        init_from: str | None = None,
        rename: dict[str, str] | None = None,
        reinit: Sequence[str] = (),
        init_heads: bool = False,
        strategy: Strategy | None = None,
        penalties: Penalties = None,
        optimizer: OptimizerCallable = default_optimizer,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Interval | None = None,
        label_smoothing: float = 0.0,
        channels_last: bool = True,
        compile: CompileMode = False,  # noqa: A002 - torch's word for it
        on_nonfinite: OnNonFinite = "stop",
        max_skips: int = 10,
    ) -> None:
        super().__init__()
        check_num_features(backbone)
        self.tasks = check_tasks(tasks, label_smoothing)
        self._owners = owners(self.tasks)
        name_tasks(backbone, self.tasks)
        self.backbone = backbone
        self.heads = nn.ModuleDict(
            {
                name: head_of(task, backbone)
                for name, task in self.tasks.items()
                if self._owners[name] == name
            }
        )
        self.reader = FeatureReader(self.tasks.values())
        if compile not in COMPILE_MODES:
            raise ValueError(
                "`compile` must be false, true, 'reduce-overhead' or 'max-autotune', got "
                f"{compile!r}."
            )
        self.compile_mode = compile
        self._compiled = False
        if channels_last:
            self.to(memory_format=torch.channels_last)
        if init_heads and init_from is None:
            raise ValueError("`init_heads` takes heads from `init_from`, which is not given.")
        self.init_from, self.init_heads = init_from, init_heads
        self.rename, self.reinit = dict(rename or {}), tuple(reinit)
        check_interval(scheduler_interval, scheduler)
        self.optimizer_factory, self.scheduler_factory = optimizer, scheduler
        self.scheduler_interval = scheduler_interval
        self.lr: float | None = None
        self.label_smoothing = label_smoothing
        self.penalties = PenaltyTerms(attached(penalties, shared_part(backbone), self.heads))
        self.strategy = strategy
        if strategy is not None:
            strategy.check(list(self.stages()))
        self.source = SourceStart(init_from, getattr(backbone, "provenance", None))
        self.source.load(self, self.rename, self.reinit, heads=init_heads)
        if not self.penalties:  # which read it too
            self.source.close()
        self.guard = FiniteGuard(on_nonfinite, max_skips)
        self.fine_tuning = FineTuning(backbone)
        self.optimisation = Optimisation()
        self.run_record = RunRecord()
        self.target_check = TargetCheck(self.tasks, self.trained_tasks)
        self.step_seeds = StepSeeds()
        self.step_log = StepLog()
        self.training_log = TrainingLog(self.trained_tasks, self.step_log)
        self.evaluations = Evaluations(self.tasks)

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - as Python's own
        """Show with the arguments of a subclass those that it passes on."""
        super().__init_subclass__(**kwargs)
        cls.__signature__ = inspect.Signature([*arguments_of(cls).values()])  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - as torch's own
        if name == CURRENT_HOOK:
            self.__dict__[name] = value
            return
        if name in ARGUMENTS and self._built:
            name, value = set_later(self, name, value)
        if name not in ("on_nonfinite", "max_skips"):  # those are the guard's
            super().__setattr__(name, value)

    # What it is made of

    @property
    def provenance(self) -> dict[str, Any] | None:
        """Where the start weights came from, and where those came from; ``None`` for random."""
        return self.source.provenance

    @property
    def transfer_report(self) -> TransferReport | None:
        """What was loaded of the source; ``None`` without one."""
        return self.source.report

    @property
    def samples(self) -> dict[str, dict[str, int]]:
        """How many samples the last evaluation of a split was of, by task.

        Of several loaders each, as ``<task>/dataloader_idx_<i>``.
        """
        return self.evaluations.samples

    @property
    def run(self) -> Trainer | None:
        """The Trainer, or ``None``."""
        return self._trainer

    @property
    def datamodule(self) -> LightningDataModule | None:
        """The data module of the Trainer, or ``None``."""
        return getattr(self.trainer, "datamodule", None) if self._trainer is not None else None

    def stages(self) -> dict[str, list[nn.Module]]:
        """Return the modules of each stage from the stem to the top, ``head`` last."""
        return stage_modules(self.backbone, self.heads)

    def trains(self, parameter: nn.Parameter) -> bool:
        """Tell if the optimiser moves a parameter in this epoch."""
        return self.fine_tuning.trains(parameter)

    def strategy_table(self) -> str:
        """Say per optimiser group what trains when and how; empty without a strategy."""
        return self.fine_tuning.table(self)

    def penalty_values(self) -> dict[str, Tensor]:
        """Return each penalty's last value by the name that it is logged under."""
        return self.penalties.values()

    def count_loaders(self) -> int:
        """Return how many loaders the evaluation that is under way reads one after the other.

        All processes must ask. Those that are read side by side, as several sources, are one.
        """
        return self.evaluations.count(self)

    # Features and losses

    @cached_property
    def trained_tasks(self) -> dict[str, Task]:
        """The tasks whose targets train, by name."""
        return trained_tasks(self.tasks)

    def head_of(self, task: str) -> nn.Module:
        """Return the head of a task, which may be another task's."""
        return self.heads[self._owners[task]]

    def output(self, task: str, features: Features) -> Tensor:
        """Return what a task's head gives for the features of its source."""
        owner = self._owners[task]
        return features.read_by(self.tasks[task], self.heads[owner], owner)

    @abstractmethod
    def features(self, images: Mapping[str | None, Inputs]) -> dict[str | None, Features]:
        """Return what heads read by source, of images by source ``(N, C, H, W)``."""

    def task_losses(
        self, batch: AnyBatch, *, smooth: bool = False, seen: list[Step] | None = None
    ) -> tuple[dict[str, Tensor], Outputs]:
        """Loss of each task that the batch holds images of.

        Args:
            batch: ``(images, targets)``, or a dict of them by source, ``None`` where a source has
                no images left.
            smooth: As in training: apply label smoothing, and leave out tasks that do not train.
            seen: Takes what penalties look at.

        Returns:
            Mean loss by task over what has a target, 0 where nothing has, and what the heads give
            with the targets, as :meth:`tl.tasks.Task.truth` gives them.

        Raises:
            ValueError: If no task reads the batch, or a target is not one of its task.
        """
        parts = by_source(batch, self.tasks.values())
        tasks = self.trained_tasks if smooth else self.tasks
        if len(tasks) < len(self.tasks):  # what no task trains on is not read either
            read = {source_of(task, parts) for task in tasks.values()}
            parts = {source: part for source, part in parts.items() if source in read}
        features = self.features({source: images for source, (images, _) in parts.items()})
        losses: dict[str, Tensor] = {}
        outputs: Outputs = {}
        answers: dict[str, Tensor] = {}
        for name, task in tasks.items():
            source = source_of(task, parts)
            if source not in parts:
                continue
            output = self.output(name, features[source])
            given = target_of(task, parts[source][1])
            target = task.settle(given, checked=self.target_check.done)
            truth = task.truth(target)
            smoothing = self.label_smoothing if smooth else 0.0
            losses[name] = task.training_loss(output.float(), target, smoothing)
            outputs[name] = (output.detach(), truth)
            answers[name] = output
        if not losses:
            raise ValueError(
                f"No task reads a source of this batch: tasks read "
                f"{', '.join(str(t.source) for t in tasks.values())}, the batch holds "
                f"{', '.join(map(str, by_source(batch)))}."
            )
        if seen is not None:
            step = Step(
                backbone=shared_part(self.backbone),
                heads=self.heads,
                images={source: images for source, (images, _) in parts.items()},
                features={source: found.vector for source, found in features.items()},
                logits=answers,
                targets={name: target for name, (_, target) in outputs.items()},
                sources={name: source_of(self.tasks[name], parts) for name in outputs},
            )
            seen.append(step)
        return losses, outputs

    @abstractmethod
    def metric(self, split: str, task: str, what: str) -> str:
        """Name under which a task's value is logged, such as ``val/cifar10/acc``."""

    # Steps

    def training_step(self, batch: AnyBatch, batch_idx: int) -> Tensor:
        """Return the sum of the tasks' losses, and of penalties."""
        seen: list[Step] | None = [] if self.penalties else None
        losses, outputs = self.task_losses(batch, smooth=True, seen=seen)
        self.guard.see(losses)
        penalty = self.penalties.term(seen[0]) if seen else None
        self.training_log.add(losses, outputs)
        loss = self.training_loss(batch, losses, outputs, penalty)
        used = {self._owners[name] for name in losses}
        absent = [name for name in self.heads if name not in used]
        if absent and self.trainer.world_size > 1:
            # DDP waits for a gradient of every parameter, and other processes may have the task
            idle = [m for n in absent for m in (self.heads[n], *beside_heads(self.backbone, n))]
            unused = [p.sum() for part in idle for p in part.parameters()]
            loss = loss + 0.0 * torch.stack(unused).sum()
        return loss

    def training_loss(
        self,
        batch: AnyBatch,
        losses: dict[str, Tensor],
        outputs: Outputs,
        penalty: Tensor | None,
    ) -> Tensor:
        """Return what training minimises: the sum of the tasks' losses, and penalties."""
        loss = self.total_loss(losses)
        return loss if penalty is None else loss + penalty

    def total_loss(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Combine the tasks' losses: their plain sum."""
        return torch.stack(list(losses.values())).sum()

    def validation_step(self, batch: AnyBatch, batch_idx: int, dataloader_idx: int = 0) -> Outputs:
        """Evaluate a batch; returns logits and targets by task for callbacks."""
        return self._evaluation_step(batch, "val", dataloader_idx)

    def test_step(self, batch: AnyBatch, batch_idx: int, dataloader_idx: int = 0) -> Outputs:
        """Evaluate a batch; returns logits and targets by task for callbacks."""
        return self._evaluation_step(batch, "test", dataloader_idx)

    def _evaluation_step(self, batch: AnyBatch, split: Split, loader: int) -> Outputs:
        losses, outputs = self.task_losses(batch)
        self.evaluations.add(split, loader, losses, outputs, self.device)
        return outputs

    def predict_step(
        self, batch: AnyBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Return answers, such as class probabilities, and sample indices ``(N,)`` by task.

        A batch may be inputs alone; their indices are then those in the batch.
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
        """Bring source, data, penalties and strategy together, before the optimiser and DDP."""
        if stage == "fit":
            self.source.restore(self)
            # they never change: DDP need not copy them from the first process at each step
            self.leave_out_of_ddp(f"penalties.{name}" for name, _ in self.penalties.named_buffers())
            if self.penalties and not self.source.begun:
                self.penalties.prepare(start_of(self, self.source.file, self.rename))
            self.fine_tuning.setup(self)
        self.source.order_heads(self, class_names(self.datamodule))
        self.run_record.adopt(self, stage)
        self.target_check.setup(self, self.datamodule, stage)
        if stage == "fit":  # an evaluation's checkpoint may tell more of its data
            check_answers(self.tasks, self.datamodule)
            check_monitors(self.trainer.callbacks)  # type: ignore[attr-defined]
            refuse_batch_size_search(self.trainer.callbacks, self.datamodule)  # type: ignore[attr-defined]
        if self.compile_mode and not self._compiled:
            # in place: names of weights stay, for checkpoints and transfer
            mode = None if self.compile_mode is True else self.compile_mode
            self.reader.compile(self.backbone, mode)
            self._compiled = True

    def leave_out_of_ddp(self, names: Iterable[str]) -> None:
        """Name parameters and buffers that DDP does not look after."""
        if names := list(names):
            keep_out_of_ddp(self, names)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser over named groups, and its schedule over the Trainer's steps."""
        make = (self.optimizer_factory, self.scheduler_factory, self.scheduler_interval)
        groups = self.parameter_groups()
        return self.optimisation.build(self, self.fine_tuning, groups, self.lr, make)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Sort the parameters into the optimiser's named groups."""
        groups = named_groups(self.backbone, self.heads)
        self.penalties.add_groups(groups, begun=self.source.begun)
        return groups

    def on_fit_start(self) -> None:
        """Log what was loaded of the source, at the start of its first training."""
        self.source.need()
        self.source.log(list(self.heads), heads=self.init_heads)

    # While it trains

    def on_train_start(self) -> None:
        """Let penalties keep the start, freeze what does not train yet, log what trains when."""
        if self.optimisation.is_outdated(self.lr):
            self.trainer.strategy.setup_optimizers(self.trainer)
        if self.penalties and not self.source.begun:
            self.penalties.start(start_of(self, self.source.file, self.rename))
        first = self.source.begin()
        self.guard.start(self.backbone)
        self.step_seeds.begin()
        self.penalties.show(self.trainer)
        self.fine_tuning.begin(self, new_heads=first and not self.init_heads)
        self.run_record.begin(self)

    def on_train_epoch_start(self) -> None:
        """Freeze and thaw by the epoch."""
        self.fine_tuning.begin_epoch(self)

    def on_train_batch_start(self, batch: AnyBatch, batch_idx: int) -> None:
        """Seed what the step may draw from, keep what it must not spoil, and set the modes."""
        self.step_seeds.set(self.current_epoch, batch_idx, self.global_rank, self.device)
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.guard.begin()
        self.fine_tuning.begin_step()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """See that losses and gradients are finite, before the latter are clipped."""
        self.fine_tuning.drop_gradients()
        self.guard.check(self, optimizer)

    def tasks_not_finite(self) -> list[str]:
        """Return the tasks whose loss was not finite since it was last logged."""
        return self.training_log.not_finite(self)

    def forget_step(self, tasks: Iterable[str]) -> None:
        """Drop what was noted of a step that is not taken, and some tasks' losses for the log."""
        self.training_log.drop(tasks)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Log the means since the last time, every ``log_every_n_steps``-th optimiser step."""
        self.training_log.end_step(self, self.guard)

    def on_train_epoch_end(self) -> None:
        """Log what the strategy did, and what the last steps of the epoch add."""
        if self.strategy is not None:
            self.log_dict(self.fine_tuning.values(self), sync_dist=True)
        self.training_log.end_epoch(self, self.guard)

    def on_train_end(self) -> None:
        """Know the data that the weights now come from."""
        self.run_record.end(self)

    # While it evaluates

    def on_validation_start(self) -> None:
        """Check weights and data, and put statistics right if a fused optimiser left out a step."""
        self.source.need()
        self.guard.read(self)
        if self.trainer.state.fn == "validate":
            check_answers(self.tasks, self.datamodule)

    def on_test_start(self) -> None:
        """See that there are weights to evaluate, and check the data against the heads."""
        self.source.need()
        check_answers(self.tasks, self.datamodule)

    def on_predict_start(self) -> None:
        """See that there are weights to predict with, and check the data against the heads."""
        self.source.need()
        check_answers(self.tasks, self.datamodule)

    def on_validation_epoch_end(self) -> None:
        """Log each task's loss and scores over the validation set of each loader."""
        self.evaluations.log(self, "val")

    def on_test_epoch_end(self) -> None:
        """Log each task's loss and scores over the test set of each loader."""
        self.evaluations.log(self, "test")

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep, in plain types under ``tl``, what the weights are; save nothing not finite."""
        self.guard.check_weights(self, checkpoint.get("state_dict", {}))
        drop_functions(checkpoint)
        checkpoint["tl"] = self.run_record.write(
            self,
            window=self.training_log.state(self),
            begun=self.source.begun,
            provenance=self.source.provenance,
            skipped_steps=self.guard.skipped,
            **self.fine_tuning.record(self),
        )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the provenance, and where the run stands that resumes.

        Raises:
            ValueError: If that run had other tasks.
        """
        record = self.run_record.read(self, checkpoint)
        if self._trainer is not None and self.trainer.state.fn != "fit":
            self.source.keep(self, record.get("provenance"))
            return
        self.run_record.resume(self, checkpoint)
        self.source.resume(record)
        self.guard.skipped = int(record.get("skipped_steps", 0))
        self.training_log.load(self, record["window"])
        self.fine_tuning.resume(self, record)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as torch's own
        """Load weights, which take the place of the source's."""
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
        """Build a module from a checkpoint that is verified first; no code from it runs.

        Lightning's own runs code from an address, and from any file where
        ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD`` is set.

        Args:
            checkpoint_path: The checkpoint, or its address.
            map_location: As in Lightning.
            hparams_file: As in Lightning.
            strict: As in Lightning.
            weights_only: Not used; always on.
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
