"""How a strategy and penalties take part in training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer

from tl.batch import Inputs, on_each
from tl.data.base import ImageDataModule
from tl.data.multitask import MultiTaskDataModule
from tl.data.tensors import TensorDataModule
from tl.data.text.source import TextSource
from tl.modules.batch import AnyBatch, labels_of
from tl.modules.batch_norm import without_sources
from tl.modules.finite import FiniteGuard
from tl.modules.seeding import seed_step
from tl.modules.settled import ARGUMENTS, set_later
from tl.modules.step_log import StepLog
from tl.optim.param_groups import keep_learning_rates, scale_learning_rates, stage_of
from tl.tasks import Classification, Task
from tl.transfer.freezing import (
    HEAD,
    Strategy,
    set_modes,
    set_requires_grad,
    stage_modules,
)
from tl.transfer.penalties.base import Penalty, Start, Step
from tl.transfer.running_statistics import running_statistics, statistics_drift
from tl.transfer.table import strategy_table

Penalties = Penalty | Sequence[Penalty] | None


class FineTunedModule(LightningModule):
    """A backbone with heads of which a strategy says what trains when.

    The strategy is asked anew at the start of each epoch and after a resume; before each step
    modules are put back into the modes that it wants. Parameters of the backbone that require no
    gradient when the module is built never train, such as weights beside LoRA adapters. On one
    process what is frozen requires no gradient. With DDP, which knows only the parameters that
    required gradients when it was set up, whatever thaws later requires them from the start, and
    loses them before each step until then. Both ways no optimiser touches it.

    Attributes:
        backbone: Images to features.
        heads: Features to logits, by task.
        tasks: Tasks by name.
        strategy: What trains when; ``None`` trains everything.
        penalties: Terms that add up to the loss.
        guard: Keeps steps that are not finite from moving anything.
    """

    backbone: nn.Module
    heads: nn.ModuleDict
    tasks: dict[str, Task]
    init_from: str | None
    rename: dict[str, str]
    init_heads: bool
    strategy: Strategy | None = None
    penalties: nn.ModuleList
    step_log: StepLog
    guard: FiniteGuard
    _thawed: Sequence[int] = ()  # epochs at which the run that resumes thaws
    _begun = False  # it has trained, or taken over a run that has: the start lies behind
    _seed = 0
    _built = False  # the constructor is done: arguments that are set from here on are checked

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - as torch's own
        if name == "_current_fx_name":  # Lightning writes it some fifty times at every step
            self.__dict__[name] = value
            return
        if name in ARGUMENTS and self._built:
            name, value = set_later(self, name, value)
        if name not in ("on_nonfinite", "max_skips"):  # those are the guard's
            super().__setattr__(name, value)

    def use(self, strategy: Strategy | None, penalties: Penalties) -> None:
        """Train by a strategy and with penalties; to be called once, in the constructor.

        Raises:
            ValueError: If the strategy names a stage that the backbone lacks, or a penalty is none.
        """
        given = [penalties] if isinstance(penalties, Penalty) else list(penalties or ())
        for penalty in given:
            if not isinstance(penalty, Penalty):
                raise ValueError(  # noqa: TRY004 - an argument, as all others
                    f"`penalties` must be penalties of tl.transfer.penalties, got {penalty!r}."
                )
            # a source is one network with one set of running statistics
            penalty.attach(without_sources(self.backbone), self.heads)
        self.penalties = nn.ModuleList(given)
        self.strategy = strategy
        if strategy is not None:
            strategy.check(list(self.stages()))
        self._modes: list[tuple[nn.Module, bool]] = []
        self._frozen: dict[int, nn.Parameter] = {}
        self._fixed: list[nn.Parameter] = []
        self._untrained = [p for p in self.backbone.parameters() if not p.requires_grad]
        self._statistics: dict[str, Tensor] = {}
        self._penalty_values: dict[str, Tensor] = {}
        self._unprepared: ValueError | None = None
        self._watched = False
        self._step: Step | None = None

    def stages(self) -> dict[str, list[nn.Module]]:
        """Return the modules of each stage from the stem to the top, ``head`` last."""
        return stage_modules(self.backbone, self.heads)

    def thaw(self) -> None:
        """Let everything train that a strategy had frozen."""
        untrained = {id(parameter) for parameter in self._untrained}
        for number, parameter in self._frozen.items():
            parameter.requires_grad_(number not in untrained)
        self._frozen, self._modes = {}, []

    # Before the run

    def setup(self, stage: str) -> None:
        """Prepare what the optimiser and DDP must know of."""
        if stage != "fit":
            return
        self._statistics = {}  # of the start of this run, or of the checkpoint that comes in
        if self.penalties:
            # they never change: DDP need not copy them from the first process at each step
            names = [f"penalties.{name}" for name, _ in self.penalties.named_buffers()]
            known = getattr(self, "_ddp_params_and_buffers_to_ignore", [])
            self._ddp_params_and_buffers_to_ignore = [*known, *names]
            if not self._begun:
                self._prepare_penalties()
        self._fix_for_ddp()

    def _prepare_penalties(self) -> None:
        """Let penalties read the source.

        Whether the run goes on from a checkpoint of its own shows later, when that has been read:
        it then replaces all that was found here, and the source may be gone.
        """
        self._unprepared = None
        try:
            for penalty in self._penalties():
                penalty.prepare(self._start())
        except ValueError as error:
            self._unprepared = error

    def _fix_for_ddp(self) -> None:
        """Before DDP is set up, settle which parameters require gradients all through the run."""
        self._fixed = []
        if self.strategy is None or self.trainer.world_size == 1:
            return
        stages = self.stages()
        trained = [s for s, e in self.strategy.first_epochs(list(stages)).items() if e is not None]
        set_requires_grad(stages, trained, self._untrained)
        self._fixed = [p for modules in stages.values() for m in modules for p in m.parameters()]

    def start_penalties(self) -> None:
        """Let penalties look at the source's weights, before they train for the first time."""
        if not self._begun:
            for penalty in self._penalties():
                penalty.start(self._start())

    def _penalties(self) -> Iterator[Penalty]:
        for penalty in self.penalties:
            if isinstance(penalty, Penalty):
                yield penalty

    def _start(self) -> Start:
        data = getattr(self.trainer, "datamodule", None)
        names, groups = (getattr(data, what, {}) for what in ("class_names", "task_groups"))
        if len(names) == len(self.tasks) == 1:  # the same task, whatever each calls it
            names = dict(zip(self.tasks, names.values(), strict=True))
            groups = dict.fromkeys(self.tasks, next(iter(groups.values()), {}))
        return Start(
            backbone=without_sources(self.backbone),
            heads=self.heads,
            init_from=self.init_from,
            rename=self.rename,
            pretrained=bool(getattr(self.backbone, "pretrained", False)),
            classes={
                name: task.num_classes
                for name, task in self.tasks.items()
                if isinstance(task, Classification) and not task.multi_label
            },
            class_names=names,
            device=self.device,
            batches=self._plain_batches,
            groups=groups,
        )

    def _plain_batches(self, task: str) -> Iterable[tuple[Inputs, Tensor]]:
        data = getattr(self.trainer, "datamodule", None)
        for images, target in plain_batches(data, self.tasks[task]):
            yield on_each(lambda part: part.to(self.device), images), target.to(self.device)

    def scaled(self, optimizer: Optimizer) -> Optimizer:
        """Write the stages' learning rates into an optimiser, before its schedule is made."""
        if self.strategy is not None:
            scale_learning_rates(optimizer, self.strategy.lr_scales(list(self.stages())))
        return optimizer

    def check_schedule(self, optimizer: Optimizer, scheduler: object) -> None:
        """See that a schedule keeps the stages' learning rates apart."""
        if self.strategy is not None:
            scales = self.strategy.lr_scales(list(self.stages()))
            keep_learning_rates(optimizer, scales, type(scheduler).__name__)

    def with_penalties(self, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Add what penalties learn to optimiser groups; turn off decay where they act."""
        if self._unprepared is not None and not self._begun:
            raise self._unprepared
        off = {part for penalty in self._penalties() for part in penalty.decays()}
        for group in groups:
            part = HEAD if stage_of(group) == HEAD else "backbone"
            if part in off:
                group["weight_decay"] = 0.0
        learned = [p for p in self.penalties.parameters() if p.requires_grad]
        decay, rest = ([p for p in learned if (p.ndim > 1) is many] for many in (True, False))
        if decay:
            groups.append({"name": "source_head", "params": decay})
        if rest:
            groups.append({"name": "source_head_no_decay", "params": rest, "weight_decay": 0.0})
        return groups

    # While it trains

    def on_train_start(self) -> None:
        """Let penalties keep the start, freeze what does not train yet, say what trains when."""
        self.start_penalties()
        first, self._begun = not self._begun, True
        self.guard.start(self.backbone)
        self._seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))  # that of `seed_everything`
        if not self._statistics:
            self._statistics = running_statistics(self.backbone)
        self._show_figures()
        if self.strategy is None:
            return
        self._freeze_and_thaw()
        if self.trainer.ckpt_path is None:
            self._warn_of_never(self.strategy, first=first)
        rank_zero_info(f"tl: {self.strategy_table()}")

    def _warn_of_never(self, strategy: Strategy, *, first: bool) -> None:
        epochs = self.trainer.max_epochs
        firsts = strategy.first_epochs(list(self.stages()))
        late = [s for s, e in firsts.items() if e is not None and epochs and 0 < epochs <= e]
        if late:
            rank_zero_warn(
                f"{type(strategy).__name__} thaws {', '.join(late)} after the end of this run of "
                f"{epochs} epochs: they never train. Raise `max_epochs`, or thaw earlier."
            )
        if first and firsts[HEAD] is None and not self.init_heads:
            rank_zero_warn(
                f"{type(strategy).__name__} never trains the heads, and they are new: they stay "
                "random. Name `head` among its stages, or take the source's by `init_heads`."
            )

    def _show_figures(self) -> None:
        loggers = [one for one in self.trainer.loggers if isinstance(one, TensorBoardLogger)]
        if not loggers or not self.trainer.is_global_zero:
            return
        for penalty in self._penalties():
            figures = penalty.figures()
            for logger in loggers:
                for name, figure in figures.items():
                    logger.experiment.add_figure(f"transfer/{name}", figure, self.global_step)

    def on_train_epoch_start(self) -> None:
        """Freeze and thaw by the epoch."""
        self._freeze_and_thaw()

    def on_train_batch_start(self, batch: AnyBatch, batch_idx: int) -> None:
        """Put modules back into their modes: whatever evaluates may leave them in others.

        Seeds what the step may draw from, too, and keeps what it must not spoil.
        """
        seed_step(self._seed, self.current_epoch, batch_idx, self.global_rank, self.device)
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.guard.begin()
        for module, training in self._modes:
            if module.training is not training:
                module.training = training

    def _freeze_and_thaw(self) -> None:
        if self.strategy is None:
            return
        stages = self.stages()
        trainable = self.strategy.trainable(self.current_epoch, list(stages))
        frozen = set_requires_grad(stages, trainable, [*self._fixed, *self._untrained])
        self._frozen = {id(parameter): parameter for parameter in [*frozen, *self._untrained]}
        set_modes(self.backbone, stages, trainable, self.strategy.bn)
        both = (*self.backbone.modules(), *self.heads.modules())
        self._modes = [(module, module.training) for module in both]

    def trains(self, parameter: nn.Parameter) -> bool:
        """Tell if the optimiser moves a parameter in this epoch."""
        return parameter.requires_grad and id(parameter) not in self._frozen

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Take the gradients of what is frozen, before they are clipped."""
        for parameter in self._frozen.values():
            parameter.grad = None

    def on_train_epoch_end(self) -> None:
        """Log how many numbers trained, and how far running statistics have moved."""
        if self.strategy is None:
            return
        frozen = sum(p.numel() for p in self._frozen.values())
        both = (*self.backbone.parameters(), *self.heads.parameters())
        values = {"transfer/trainable_parameters": float(sum(p.numel() for p in both) - frozen)}
        if self._statistics:
            values["transfer/bn_drift"] = statistics_drift(self.backbone, self._statistics)
        self.log_dict(values, sync_dist=True)

    # Penalties

    def penalty(self) -> Tensor | None:
        """Add up the penalties of the step that was just computed; ``None`` without any."""
        step, self._step, self._watched = self._step, None, False
        if step is None:
            return None
        values: dict[str, Tensor] = {}
        for number, penalty in enumerate(self._penalties(), 1):
            name = f"transfer/{penalty.name}"
            values[f"{name}_{number}" if name in values else name] = penalty(step)
        self._penalty_values = {name: value.detach() for name, value in values.items()}
        return torch.stack(list(values.values())).sum()

    def log_penalties(self) -> None:
        """Log each penalty's last value."""
        reduce = self.trainer.strategy.reduce
        values = {k: reduce(v.clone(), reduce_op="mean") for k, v in self._penalty_values.items()}
        self.step_log.add(self.trainer, values)

    def penalty_values(self) -> dict[str, Tensor]:
        """Return each penalty's last value by the name that it is logged under."""
        return self._penalty_values

    def strategy_table(self) -> str:
        """Say per optimiser group what trains when and how; empty without a strategy."""
        if self.strategy is None:
            return ""
        return strategy_table(
            self.strategy,
            self.trainer.optimizers[0].param_groups,
            self.stages(),
            self._untrained,
        )

    # Checkpoints

    def statistics_at_start(self) -> dict[str, Tensor]:
        """Running statistics that drift is measured from, to be saved; empty without a strategy."""
        return self._statistics if self.strategy is not None else {}

    def thaws(self) -> dict[str, list[int]]:
        """Epochs at which the strategy lets other stages train, by its name, to be saved."""
        if self.strategy is None:
            return {}
        return {type(self.strategy).__name__: self.strategy.changes(list(self.stages()))}

    def resume_thaws(self, record: Mapping[str, Sequence[int]]) -> None:
        """Take over what :meth:`thaws` gave, if the strategy is the same."""
        if self._trainer is not None:
            self._thawed = record.get(type(self.strategy).__name__, ())

    def resume_statistics(self, record: Mapping[str, Any]) -> None:
        """Take over what :meth:`statistics_at_start` gave."""
        self._statistics = dict(record)


def plain_batches(data: object, task: Task, size: int = 500) -> Iterator[tuple[Inputs, Tensor]]:
    """Yield all training images of a task, normalised but not augmented, with its labels.

    Args:
        data: The run's data module, one of ours.
        task: The task.
        size: Images per batch.

    Raises:
        ValueError: If the data module is of another kind.
    """
    if isinstance(data, MultiTaskDataModule) and task.source is not None:
        data = data.sources[task.source]
    if isinstance(data, TensorDataModule | TextSource):
        samples = data.splits["train"]
        for some in torch.split(torch.arange(len(samples)), size):
            inputs, targets = data.on_after_batch_transfer(samples[some], 0)
            yield inputs, labels_of(task, targets)
        return
    if not isinstance(data, ImageDataModule):
        raise ValueError(  # noqa: TRY004 - a setting of the run
            f"Reading the training images as they are needs a data module of tl.data, got "
            f"{type(data).__name__}."
        )
    images = data.splits["train"]
    for first in range(0, len(images), size):
        rows = range(first, min(first + size, len(images)))
        pixels, targets = data.transform(images[torch.arange(rows.start, rows.stop)], None)
        yield pixels, labels_of(task, targets)
