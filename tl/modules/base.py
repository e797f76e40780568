"""A backbone with a head per task: what a module is made of, and the losses of a batch."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from tl.backbones.streams import shared_part
from tl.batch import Inputs
from tl.data.options import arguments_of
from tl.modules.batch import AnyBatch, Outputs
from tl.modules.captured import CapturedStep
from tl.modules.checkpointed import RunRecord
from tl.modules.evaluation import Evaluations
from tl.modules.features import FeatureReader, Features, check_num_features, name_tasks
from tl.modules.fine_tuning import FineTuning
from tl.modules.finite import FiniteGuard, OnNonFinite
from tl.modules.foreign import TargetCheck
from tl.modules.losses import batch_losses
from tl.modules.optimisation import Interval, check_interval
from tl.modules.penalties import Penalties, PenaltyTerms, attached
from tl.modules.settled import ARGUMENTS, check_speed_options, check_tasks, checked_head, set_later
from tl.modules.source_start import SourceStart
from tl.modules.step_log import StepLog
from tl.modules.training_log import TrainingLog
from tl.modules.twins import make_twins
from tl.private.lightning import CURRENT_HOOK
from tl.tasks import Task, owners, trained_tasks
from tl.transfer.freezing import Strategy
from tl.transfer.penalties.base import Step
from tl.transfer.stage_modes import stage_modules
from tl.transfer.weights import TransferReport

CompileMode = bool | Literal["reduce-overhead", "max-autotune"]


def default_optimizer(parameters: Iterable[Any]) -> torch.optim.Optimizer:
    """SGD with a learning rate of 0.1, Nesterov momentum of 0.9 and weight decay of 5e-4."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)


class SharedBackboneModule(LightningModule):
    """A backbone, a head per task, and the collaborators that a run consists of.

    Subclasses define how features are computed from a batch of one or several sources. They pass
    the arguments below on by keyword.

    Args:
        backbone: Inputs, such as images ``(N, C, H, W)``, to features ``(N, num_features)``: any
            module with an integer attribute ``num_features``.
        tasks: What to predict.
        init_from: Checkpoint of a source whose weights the backbone starts from: one of this
            framework, a plain state dict, or safetensors. To resume a run, use ``ckpt_path``
            instead.
        rename: Beginnings of names in that checkpoint and what they are called in the backbone.
        reinit: Beginnings of names in the backbone that keep their random initialization.
        init_heads: Also load heads from that checkpoint, for tasks of the same name, as when a task
            is added to a network that had fewer; all other heads start from scratch.
        strategy: What trains when, at which fraction of the learning rate, and what batch norm
            does, such as ``tl.transfer.LinearProbe``. By default, everything trains.
        penalties: Terms added to the loss, such as ``tl.transfer.penalties.L2SP``; one, or a list.
            Balancers neither weight nor aggregate them: their gradient is added to the update.
        optimizer: Builds the optimizer from parameter groups. Norms and biases never decay.
        scheduler: Builds the learning-rate schedule from the optimizer; schedules that take
            ``total_steps`` receive it from the Trainer.
        scheduler_interval: Whether the schedule advances every ``step`` or ``epoch``. By default
            its class determines this; if that does not fit the length of the run, an error asks for
            it.
        label_smoothing: Fraction of the target spread over all classes, 0 to below 1 (Szegedy et
            al., 2016, section 7), in training only.
        channels_last: Store weights in channels-last memory, which is faster for convolutions.
        compile: Compile the backbone with `torch.compile` (the first steps take minutes on a CPU);
            ``reduce-overhead`` uses CUDA graphs, for small networks, ``max-autotune`` searches for
            the fastest kernels. Checkpoints are those of the uncompiled network.
        cuda_graph: Replay the forward pass, losses and backward pass of training steps from CUDA
            graphs, on one GPU in float32 or bf16. Where that is not safe, steps run as usual, and
            one line says why. Off by default, because it has not been measured on a GPU yet.
        on_nonfinite: What to do before a step with a non-finite loss or gradient: ``stop``, or
            ``skip`` it and count it as ``train/skipped_steps``. Either way, nothing is updated.
        max_skips: Maximum number of consecutive skipped steps; one more stops the run.

    Attributes:
        backbone: Inputs to features ``(N, num_features)``.
        twins: Momentum twins of backbone and projector, by task, for tasks that learn from one.
        heads: Features to what the task needs, such as logits ``(N, num_classes)``, by task; see
            :meth:`head_of` for tasks that share one.
        tasks: The tasks by name, in a fixed order.
        owners: By task, the one that has its head: itself, or the one that it shares.
        guard: Keeps non-finite steps from changing anything.
        lr: Learning rate in place of the optimizer's own, for all stages before their scales;
            Lightning's learning-rate finder sets it. ``None`` by default.
        samples: Number of samples in the last evaluation of a split, by task; with several
            loaders, by ``<task>/dataloader_idx_<i>``.

    Raises:
        ValueError: If the backbone lacks ``num_features`` or an argument is out of range.
    """

    strategy: Strategy | None = None
    run_seed: int | None = None  # of the run that trains, or of the last one
    _stepped = False  # whether the current optimizer step was taken
    _built = False  # set at the end of the constructor: later assignments are checked

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
        cuda_graph: bool = False,
        on_nonfinite: OnNonFinite = "stop",
        max_skips: int = 10,
    ) -> None:
        super().__init__()
        check_num_features(backbone)
        self.tasks = check_tasks(tasks, label_smoothing)
        self.owners = owners(self.tasks)
        name_tasks(backbone, self.tasks)
        self.backbone = backbone
        own = [task for name, task in self.tasks.items() if self.owners[name] == name]
        self.heads = nn.ModuleDict({task.name: checked_head(task, backbone) for task in own})
        self.reader = FeatureReader(self.tasks.values())
        check_speed_options(compile, cuda_graph)
        self.compile_mode = compile
        self._compiled = False
        self.captured = CapturedStep() if cuda_graph else None
        self._left_out: set[str] = set()  # parameters of the backbone, by name
        if channels_last:
            self.to(memory_format=torch.channels_last)
        if init_heads and init_from is None:
            raise ValueError("`init_heads` loads heads from `init_from`, which is not set.")
        self.init_from, self.init_heads = init_from, init_heads
        self.rename, self.reinit = dict(rename or {}), tuple(reinit)
        check_interval(scheduler_interval, scheduler)
        self.optimizer_factory, self.scheduler_factory = optimizer, scheduler
        self.scheduler_interval = scheduler_interval
        self.lr: float | None = None
        self.label_smoothing = label_smoothing
        self.penalties = PenaltyTerms(
            attached(penalties, shared_part(backbone), self.heads, self.tasks)
        )
        self.strategy = strategy
        if strategy is not None:
            strategy.check(list(self.stages()))
        self.source = SourceStart(init_from, getattr(backbone, "provenance", None))
        self.source.load(self)
        if not self.penalties:  # they read it too
            self.source.close()
        self.twins = make_twins(self.tasks, backbone, self.heads)
        self.guard = FiniteGuard(on_nonfinite, max_skips)
        self.fine_tuning = FineTuning(backbone)
        self.run_record = RunRecord()
        self.target_check = TargetCheck(self.tasks, self.trained_tasks)
        self.step_log = StepLog()
        self.training_log = TrainingLog(self.trained_tasks)
        self.evaluations = Evaluations(self.tasks)
        self.samples = self.evaluations.samples

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - as Python's own
        """Include in the signature of a subclass the arguments that it passes on."""
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
        """Where the initial weights came from, and where those came from; ``None`` if random."""
        return self.source.provenance

    @property
    def transfer_report(self) -> TransferReport | None:
        """What was loaded from the source; ``None`` without one."""
        return self.source.report

    @property
    def run(self) -> Trainer | None:
        """The Trainer, or ``None``."""
        return self._trainer

    @property
    def datamodule(self) -> LightningDataModule | None:
        """The data module of the Trainer, or ``None``."""
        return getattr(self._trainer, "datamodule", None)

    @cached_property
    def trained_tasks(self) -> dict[str, Task]:
        """The tasks that train, by name."""
        return trained_tasks(self.tasks)

    def stages(self) -> dict[str, list[nn.Module]]:
        """Return the modules of each stage from the stem to the top, ``head`` last."""
        return stage_modules(self.backbone, self.heads)

    def head_of(self, task: str) -> nn.Module:
        """Return the head of a task, which may be another task's."""
        return self.heads[self.owners[task]]

    def output(self, task: str, features: Features) -> Tensor:
        """Return what a task's head gives for the features of its source."""
        owner = self.owners[task]
        return features.read_by(self.tasks[task], self.heads[owner], owner)

    def trains(self, parameter: nn.Parameter) -> bool:
        """Return whether the optimizer updates a parameter in this epoch."""
        return self.fine_tuning.trains(parameter)

    def strategy_table(self) -> str:
        """Return what trains when, a row per optimizer group; empty without a strategy."""
        return self.fine_tuning.table(self)

    def penalty_values(self) -> dict[str, Tensor]:
        """Return the latest value of each penalty by the name that it is logged under."""
        return self.penalties.values()

    def count_loaders(self) -> int:
        """Return how many loaders the current evaluation reads one after the other.

        Call it in all processes. Loaders that are read together, one per source, count as one.
        """
        return self.evaluations.count(self)

    # Features and losses

    @abstractmethod
    def features(self, images: Mapping[str | None, Inputs]) -> dict[str | None, Features]:
        """Return what heads read, by source.

        Args:
            images: Inputs by source, such as images ``(N, C, H, W)``.
        """

    @abstractmethod
    def metric(self, split: str, task: str, what: str) -> str:
        """Return the name that a task's value is logged under, such as ``val/cifar10/acc``."""

    def task_losses(
        self, batch: AnyBatch, *, smooth: bool = False, seen: list[Step] | None = None
    ) -> tuple[dict[str, Tensor], Outputs]:
        """Return the loss of each task in a batch.

        Args:
            batch: ``(inputs, targets)``, or a dict of them by source, ``None`` for a source without
                samples.
            smooth: Compute training losses: apply label smoothing, and leave out tasks that do not
                train.
            seen: Receives what penalties look at.

        Returns:
            Mean loss by task over what has a target, 0 if nothing has; and by task, the output of
            the head and the targets as :meth:`tl.tasks.Task.truth` returns them.

        Raises:
            ValueError: If no task reads the batch, or a target does not fit its task.
        """
        return batch_losses(self, batch, smooth=smooth, seen=seen)

    def progress(self) -> float | None:
        """Return the share of the training that is done; ``None`` if its length is not known."""
        steps = self.trainer.estimated_stepping_batches if self.run is not None else 0
        return self.global_step / steps if 0 < steps < float("inf") else None

    def total_loss(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Combine the tasks' losses: their plain sum."""
        return torch.stack(list(losses.values())).sum()

    def forget_step(self, tasks: Iterable[str]) -> None:
        """Discard what was recorded of a step that is not taken, and some tasks' logged losses."""
        self._stepped = False
        self.training_log.drop(tasks)
