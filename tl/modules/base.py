"""The one step that training, validation and test share, around a backbone with heads."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import BaseFinetuning, BatchSizeFinder
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, ReduceLROnPlateau

from tl.batch import Inputs
from tl.data import ImageDataModule, MultiTaskDataModule
from tl.modules.batch import (
    AnyBatch,
    by_source,
    checked,
    is_sorted,
    source_of,
    target_of,
    to_predict,
)
from tl.modules.checkpointed import CheckpointedModule
from tl.modules.direction import check_direction
from tl.modules.evaluation import Evaluation, Split, check_followed, loader_suffix
from tl.modules.features import FeatureReader, Features, head_of
from tl.modules.fine_tuning import Penalties
from tl.modules.finite import FiniteGuard, OnNonFinite
from tl.modules.foreign import name_arguments
from tl.modules.second_fit import continue_from
from tl.modules.settled import check_label_smoothing
from tl.modules.step_log import StepLog, is_due
from tl.modules.window import Window
from tl.optim.optimizers import fused, keep_kernel
from tl.optim.param_groups import named_groups
from tl.optim.schedule import build_schedule, refuse_changing_steps
from tl.tasks import Task, as_task
from tl.transfer.freezing import Strategy
from tl.transfer.penalties.base import Step
from tl.transfer.weights import TransferReport

Outputs = dict[str, tuple[Tensor, Tensor]]
FORMAT = 1
Interval = Literal["step", "epoch"]
CompileMode = bool | Literal["reduce-overhead", "max-autotune"]
COMPILE_MODES = (False, True, "reduce-overhead", "max-autotune")


class SharedBackboneModule(CheckpointedModule):
    """A backbone, a head per task, and everything around them that all ways of training share.

    Subclasses say how features come from a batch of one or several sources.

    Attributes:
        backbone: Images ``(N, 3, H, W)`` to features ``(N, num_features)``.
        heads: Features to what the task wants, such as logits ``(N, num_classes)``, by task.
        tasks: The tasks by name, in a fixed order.
        lr: Learning rate in place of the optimiser's own, for all stages before their scales;
            Lightning's learning-rate finder sets it. ``None`` by default.
        samples: How many samples the last evaluation of a split was of, by task; of several
            loaders each, as ``<task>/dataloader_idx_<i>``.
    """

    def __init__(
        self,
        backbone: nn.Module,
        tasks: Sequence[Task | dict[str, Any]],
        *,
        init_from: str | None,
        rename: Mapping[str, str] | None,
        reinit: Sequence[str],
        init_heads: bool,
        strategy: Strategy | None,
        penalties: Penalties,
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None,
        scheduler_interval: Interval | None,
        label_smoothing: float,
        channels_last: bool,
        compile: CompileMode,  # noqa: A002 - torch's word for it
        on_nonfinite: OnNonFinite,
        max_skips: int,
    ) -> None:
        super().__init__()
        found = [as_task(task) for task in tasks]
        if not found:
            raise ValueError("`tasks` is empty; give at least one task.")
        check_label_smoothing(label_smoothing, found)
        names = [task.name for task in found]
        if taken := [name for name in names if hasattr(nn.ModuleDict, name)]:
            raise ValueError(
                f"A task cannot be called {taken[0]!r}, a name of torch's own; rename its source."
            )
        if len(set(names)) < len(names):
            raise ValueError(f"Task names must differ, got {', '.join(names)}.")
        self.tasks = {task.name: task for task in found}
        self.backbone = backbone
        self.heads = nn.ModuleDict(
            {name: head_of(task, backbone) for name, task in self.tasks.items()}
        )
        self.reader = FeatureReader(self.tasks.values())
        if compile not in COMPILE_MODES:
            raise ValueError(
                "`compile` must be false, true, 'reduce-overhead' or 'max-autotune', got "
                f"{compile!r}."
            )
        self.compile_mode = compile
        if channels_last:
            self.to(memory_format=torch.channels_last)
        self.init_from = init_from
        self.rename = dict(rename or {})
        self.reinit = tuple(reinit)
        if init_heads and init_from is None:
            raise ValueError("`init_heads` takes heads from `init_from`, which is not given.")
        self.init_heads = init_heads
        self.optimizer_factory = optimizer
        if scheduler_interval not in (None, "step", "epoch"):
            raise ValueError(
                f"`scheduler_interval` must be step or epoch, got {scheduler_interval!r}."
            )
        if scheduler_interval is not None and scheduler is None:
            raise ValueError("`scheduler_interval` is the unit of `scheduler`, which is not given.")
        self.scheduler_factory = scheduler
        self.scheduler_interval = scheduler_interval
        self.lr: float | None = None
        self._configured_lr: float | None = None
        self.label_smoothing = label_smoothing
        self.provenance: dict[str, Any] | None = getattr(backbone, "provenance", None)
        self.transfer_report: TransferReport | None = None
        self.use(strategy, penalties)
        self.start_from_source()
        self.guard = FiniteGuard(on_nonfinite, max_skips)
        self._compiled = False
        self._targets_checked = False  # on the host, before they came to an accelerator
        self.step_log = StepLog()
        self._window = Window(self.tasks)
        self._shared_scores = shared_scores(self.tasks.values())
        self._evaluations = nn.ModuleList([Evaluation(self.tasks)])  # by loader
        self._loaders = 1  # seen in the evaluation that is under way
        self.samples: dict[str, dict[str, int]] = {}

    # Features and losses

    @abstractmethod
    def features(self, images: Mapping[str | None, Inputs]) -> dict[str | None, Features]:
        """Return what heads read by source, of images by source ``(N, C, H, W)``."""

    def task_losses(
        self, batch: AnyBatch, *, smooth: bool = False
    ) -> tuple[dict[str, Tensor], Outputs]:
        """Loss of each task that the batch holds images of.

        Args:
            batch: ``(images, targets)``, or a dict of them by source, ``None`` where a source has
                no images left.
            smooth: Apply label smoothing, as in training.

        Returns:
            Mean loss by task over what has a target, 0 where nothing has, and what the heads give
            with the targets, as :meth:`tl.tasks.Task.truth` gives them.

        Raises:
            ValueError: If no task reads the batch, or a target is not one of its task.
        """
        parts = by_source(batch, self.tasks.values())
        features = self.features({source: images for source, (images, _) in parts.items()})
        losses: dict[str, Tensor] = {}
        outputs: Outputs = {}
        answers: dict[str, Tensor] = {}
        for name, task in self.tasks.items():
            source = source_of(task, parts)
            if source not in parts:
                continue
            output = features[source].read_by(task, self.heads[name])
            given = target_of(task, parts[source][1])
            target = task.settle(given, checked=self._targets_checked)
            truth = task.truth(target)
            smoothing = self.label_smoothing if smooth else 0.0
            losses[name] = task.training_loss(output.float(), target, smoothing)
            outputs[name] = (output.detach(), truth)
            answers[name] = output
        if not losses:
            raise ValueError(
                f"No task reads a source of this batch: tasks read "
                f"{', '.join(str(t.source) for t in self.tasks.values())}, the batch holds "
                f"{', '.join(map(str, parts))}."
            )
        if self._watched:
            self._step = Step(
                backbone=self.backbone,
                heads=self.heads,
                images={source: images for source, (images, _) in parts.items()},
                features={source: found.vector for source, found in features.items()},
                logits=answers,
                targets={name: target for name, (_, target) in outputs.items()},
                sources={name: source_of(self.tasks[name], parts) for name in outputs},
            )
        return losses, outputs

    @abstractmethod
    def metric(self, split: str, task: str, what: str) -> str:
        """Name under which a task's value is logged, such as ``val/cifar10/acc``."""

    # Steps

    def _checked(self, batch: AnyBatch, dataloader_idx: int) -> AnyBatch:
        """Check the targets of foreign data while that does not wait for an accelerator."""
        # of another form they may be sorted after the transfer
        self._targets_checked = is_sorted(batch)
        return checked(batch, self.tasks.values()) if self._targets_checked else batch

    def training_step(self, batch: AnyBatch, batch_idx: int) -> Tensor:
        """Return the sum of the tasks' losses, and of penalties."""
        self._watched = bool(self.penalties)
        losses, outputs = self.task_losses(batch, smooth=True)
        self.guard.see(losses)
        penalty = self.penalty()
        for name, loss in losses.items():
            self._window.add(name, loss.detach(), *outputs[name])
        loss = self.training_loss(batch, losses, outputs)
        if penalty is not None:
            loss = self.penalised(loss, penalty)
        absent = [name for name in self.tasks if name not in losses]
        if absent and self.trainer.world_size > 1:
            # DDP waits for a gradient of every parameter, and other processes may have the task
            unused = [p.sum() for name in absent for p in self.heads[name].parameters()]
            loss = loss + 0.0 * torch.stack(unused).sum()
        return loss

    def penalised(self, loss: Tensor, penalty: Tensor) -> Tensor:
        """Add penalties to a loss."""
        return loss + penalty

    def training_loss(self, batch: AnyBatch, losses: dict[str, Tensor], outputs: Outputs) -> Tensor:
        """Return what training minimises: the sum of the tasks' losses."""
        return self.total_loss(losses)

    def total_loss(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Combine the tasks' losses: their plain sum."""
        return torch.stack(list(losses.values())).sum()

    def on_train_start(self) -> None:
        """Build the optimiser anew if Lightning has found a learning rate since it was built."""
        if self.lr != self._configured_lr:
            self.trainer.strategy.setup_optimizers(self.trainer)
        super().on_train_start()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """See that losses and gradients are finite, before the latter are clipped."""
        super().on_before_optimizer_step(optimizer)
        self.guard.check(self, optimizer)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Log the means since the last time, every ``log_every_n_steps``-th optimiser step."""
        if is_due(self.trainer):
            self.guard.read(self)
            values = {**self._skipped(), **self._window_means()}
            self.step_log.add(self.trainer, values, bar=self._bar("train"))
            self.log_penalties()
        self.step_log.write(self.trainer)

    def on_train_epoch_end(self) -> None:
        """Log what the last steps of the epoch add."""
        super().on_train_epoch_end()
        self.guard.read(self)
        if values := {**self._skipped(), **self._window_means()}:
            self._log_values(values, bar=self._bar("train"))

    def _bar(self, split: str) -> set[str]:
        """Names of the values that the progress bar shows."""
        decide = {task.score for task in self.tasks.values()}
        return {f"{split}/{what}" for what in ("loss", *self._shared_scores) if what in decide} | {
            f"{split}/loss"
        }

    def _skipped(self) -> dict[str, Tensor]:
        if self.guard.action != "skip":
            return {}
        return {"train/skipped_steps": torch.tensor(float(self.guard.skipped))}

    def _window_means(self) -> dict[str, Tensor]:
        """Take the means over all processes since the last time."""
        means = self._window.means(self.trainer.strategy.reduce, self.device)
        if not means:
            return {}
        values = {
            self.metric("train", task, what): value
            for task, both in means.items()
            for what, value in both.items()
        }
        values["train/loss"] = self.total_loss({task: both["loss"] for task, both in means.items()})
        for what in self._shared_scores:
            if found := [each[what] for each in means.values() if what in each]:
                values[f"train/{what}"] = torch.stack(found).mean()
        return values

    def tasks_not_finite(self) -> list[str]:
        """Return the tasks whose loss was not finite since it was last logged."""
        return self._window.not_finite(self.trainer.strategy.reduce, self.device)

    def forget_step(self, tasks: Iterable[str]) -> None:
        """Drop what was noted of a step that is not taken, and some tasks' losses for the log."""
        self._window.drop(tasks)

    def _log_values(self, values: Mapping[str, Tensor], bar: set[str]) -> None:
        """Log values that are equal in all processes, some of them in the progress bar too."""
        # reduced already; `sync_dist` keeps Lightning from warning that they might not be
        for shown in (False, True):
            some = {name: value for name, value in values.items() if (name in bar) == shown}
            self.log_dict(some, sync_dist=True, prog_bar=shown, add_dataloader_idx=False)

    def validation_step(self, batch: AnyBatch, batch_idx: int, dataloader_idx: int = 0) -> Outputs:
        """Evaluate a batch; returns logits and targets by task for callbacks."""
        return self._evaluation_step(batch, "val", dataloader_idx)

    def test_step(self, batch: AnyBatch, batch_idx: int, dataloader_idx: int = 0) -> Outputs:
        """Evaluate a batch; returns logits and targets by task for callbacks."""
        return self._evaluation_step(batch, "test", dataloader_idx)

    def _evaluation_step(self, batch: AnyBatch, split: Split, loader: int) -> Outputs:
        losses, outputs = self.task_losses(batch)
        evaluation = self._evaluation_of(loader)
        self._loaders = max(self._loaders, loader + 1)
        for name, (logits, target) in outputs.items():
            evaluation.add(split, name, losses[name], logits, target)
        return outputs

    def count_loaders(self) -> int:
        """Return how many loaders the evaluation that is under way reads one after the other.

        All processes must ask. Those that are read side by side, as several sources, are one.
        """
        if self.trainer.world_size == 1:
            return self._loaders
        count = torch.tensor(self._loaders, device=self.device)
        return int(self.trainer.strategy.reduce(count, reduce_op="max"))

    def _evaluation_of(self, loader: int) -> Evaluation:
        for _ in range(len(self._evaluations), loader + 1):
            with torch.inference_mode(mode=False):  # a later `fit` adds to them too
                self._evaluations.append(Evaluation(self.tasks).to(self.device))
        return cast("Evaluation", self._evaluations[loader])

    def on_validation_start(self) -> None:
        """Check the data, and put statistics right if a fused optimiser left out a step."""
        super().on_validation_start()
        self.guard.read(self)
        if self.trainer.state.fn == "validate":
            self._check_data()

    def on_test_start(self) -> None:
        """Check the data against the heads."""
        super().on_test_start()
        self._check_data()

    def on_predict_start(self) -> None:
        """Check the data against the heads."""
        super().on_predict_start()
        self._check_data()

    def on_validation_epoch_end(self) -> None:
        """Log each task's loss and scores over the validation set of each loader."""
        self._log_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Log each task's loss and scores over the test set of each loader."""
        self._log_evaluation("test")

    def _log_evaluation(self, split: Split) -> None:
        trainer, count = self.trainer, self.count_loaders()
        self._loaders = 1
        self.samples[split] = {}
        found: dict[str, Tensor] = {}
        for loader in range(count):
            suffix = loader_suffix(loader, count)
            evaluation, reduce = self._evaluation_of(loader), trainer.strategy.reduce
            samples = evaluation.samples(split, reduce)
            self.samples[split] |= {f"{task}{suffix}": n for task, n in samples.items()}
            results = evaluation.results(split, reduce)
            if not results:
                continue
            names = dict.fromkeys(what for each in results.values() for what in each)
            values = {
                self.metric(split, task, what): each[what]
                for what in names
                for task, each in results.items()
                if what in each
            }
            values[f"{split}/loss"] = self.total_loss({t: r["loss"] for t, r in results.items()})
            for what in self._shared_scores:
                both = [each[what] for each in results.values()]
                values[f"{split}/{what}"] = torch.stack(both).mean()
            check_followed(trainer, values, suffix, count)
            found |= {f"{name}{suffix}": value for name, value in values.items()}
        if found:
            bar = tuple(self._bar(split))
            self._log_values(found, bar={k for k in found if k.startswith(bar)})

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
                output = features[source].read_by(task, self.heads[name])
                index = next(iter(index.values())) if isinstance(index, dict) else index
                found[name] = (task.answer(output), index)
        return found

    # Optimisation

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser over named groups, and its schedule over the Trainer's steps."""
        optimizer, self._configured_lr = self.optimizer_factory(self.parameter_groups()), self.lr
        if self.lr is not None:
            for group in optimizer.param_groups:
                group["lr"] = self.lr
        scaler = self._trainer and getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is None:  # with one it would unscale gradients itself, after they were clipped
            optimizer = fused(optimizer)
        keep_kernel(optimizer)
        optimizer = self.scaled(optimizer)
        # a schedule that changes nothing has the learning rates logged as those of any other
        factory = self.scheduler_factory or partial(ConstantLR, factor=1.0, total_iters=0)
        self._begin_strategy()
        config, whole_run = build_schedule(
            cast("Callable[..., Any]", factory),
            optimizer,
            self._count_steps,
            self._probe_steps,
            lambda: self._count_epochs() or 0,
            self.scheduler_interval,
        )
        scheduler = config["scheduler"]
        self.check_schedule(optimizer, scheduler)
        if self._trainer is not None:
            refuse_changing_steps(self.trainer, factory, scheduler, filled=whole_run)
        if isinstance(scheduler, ReduceLROnPlateau):
            monitor = config.setdefault("monitor", getattr(scheduler, "monitor", "val/loss"))
            check_direction(monitor, scheduler.mode, "the schedule ReduceLROnPlateau")
            if self._trainer is not None:  # where nothing is validated there is nothing to follow
                self._refuse_to_follow(monitor, config)
                config.setdefault("frequency", self.trainer.check_val_every_n_epoch or 1)
        if self._trainer is not None:
            continue_from(self.trainer, optimizer, config)
        return cast("OptimizerLRScheduler", {"optimizer": optimizer, "lr_scheduler": config})

    def _refuse_to_follow(self, monitor: str, config: Mapping[str, Any]) -> None:
        """Refuse a plateau schedule per epoch that would read what was not validated in it.

        Raises:
            ValueError: If validation does not come at the end of epochs.
        """
        trainer, said = self.trainer, "frequency" in config or config["interval"] == "step"
        if trainer.check_val_every_n_epoch is None and monitor.startswith("val/") and not said:
            raise ValueError(
                f"ReduceLROnPlateau advances per epoch, and `{monitor}` is not of every epoch with "
                "`check_val_every_n_epoch: null`; set `trainer.check_val_every_n_epoch` to 1 or "
                "more, with a `val_check_interval` within an epoch if need be."
            )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Sort the parameters into the optimiser's named groups."""
        return self.with_penalties(named_groups(self.backbone, self.heads))

    def _count_steps(self) -> int:
        steps = self.trainer.estimated_stepping_batches
        if not 0 < steps < float("inf"):
            raise ValueError(
                f"The schedule needs the length of the run, and it is {steps} steps; set "
                "`max_epochs` or `max_steps`, or give the schedule its `total_steps`."
            )
        return int(steps)

    def _probe_steps(self) -> int | None:
        """Count the steps before the strategy first lets more stages train."""
        changes = self.strategy.changes(list(self.stages())) if self.strategy is not None else []
        if not changes:
            return None
        steps = self._steps_of_an_epoch()
        return None if steps is None else changes[0] * steps

    def _steps_of_an_epoch(self) -> int | None:
        self.trainer.fit_loop.setup_data()
        batches = self.trainer.num_training_batches
        if not math.isfinite(batches):
            return None
        return math.ceil(batches / self.trainer.accumulate_grad_batches)

    def _begin_strategy(self) -> None:
        """Tell the strategy how many epochs the run has, by whichever limit comes first."""
        if self.strategy is None or self._trainer is None or self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        before, self._thawed = self._thawed, ()
        if not self.strategy.changes(list(self.stages())):
            return
        self.strategy.begin(self._count_epochs(), before)

    def _count_epochs(self) -> int | None:
        """Count the epochs of the run by whichever limit comes first, if it has one."""
        if self._trainer is None or self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return None
        limits = [self.trainer.max_epochs or -1]
        if self.trainer.max_steps > 0 and (steps := self._steps_of_an_epoch()):
            limits.append(math.ceil(self.trainer.max_steps / steps))
        return min((limit for limit in limits if limit > 0), default=None)

    # Around a run

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save nothing that is not finite."""
        self.guard.check_weights(self, checkpoint.get("state_dict", {}))
        super().on_save_checkpoint(checkpoint)

    def setup(self, stage: str) -> None:
        """Check the data against the heads; compile the backbone where that is asked for."""
        super().setup(stage)
        self.adopt_for(stage)
        self._check_targets(stage)
        if stage == "fit":  # an evaluation's checkpoint may tell more of its data
            self._check_data()
            check_monitors(self.trainer.callbacks)  # type: ignore[attr-defined]
            refuse_batch_size_search(self.trainer.callbacks, self._datamodule())  # type: ignore[attr-defined]
        if self.compile_mode and not self._compiled:
            # in place: names of weights stay, for checkpoints and transfer
            mode = None if self.compile_mode is True else self.compile_mode
            self.reader.compile(self.backbone, mode)
            self._compiled = True

    def _check_targets(self, stage: str) -> None:
        """Have targets of foreign data checked; data modules of `tl.data` check theirs."""
        ours = isinstance(self._datamodule(), ImageDataModule | MultiTaskDataModule)
        self._targets_checked = ours
        vars(self).pop("on_before_batch_transfer", None)
        data = self._datamodule()
        if stage == "predict" and not ours and isinstance(data, LightningDataModule):
            name_arguments(data)
        if ours or stage == "predict":
            return
        # on the object, since a hook of the class would cost each step of our own data a few calls
        self.on_before_batch_transfer = self._checked  # type: ignore[method-assign]
        # where a foreign data module has this hook, that is used, and its targets are checked later
        warnings.filterwarnings("ignore", message="You have overridden `on_before_batch_transfer`")

    def _check_data(self) -> None:
        data = self._datamodule()
        offered = {task.name: task for task in getattr(data, "tasks", ())}
        for name, task in self.tasks.items():
            if len(self.tasks) == len(offered) == 1:
                other = next(iter(offered.values()))
            elif name in offered:
                other = offered[name]
            else:
                continue
            if other.answers != task.answers:
                raise ValueError(
                    f"Task {name!r} has a head of {task.answers}, the data have {other.answers}."
                )


def shared_scores(tasks: Iterable[Task]) -> list[str]:
    """Return the scores that all tasks have, whose mean over the tasks says something."""
    names = [list(task.scores()) for task in tasks]
    return [name for name in names[0] if all(name in each for each in names)]


def refuse_batch_size_search(callbacks: Iterable[object], data: object) -> None:
    """Refuse to search for a batch size from none, or for one that no source takes.

    Raises:
        ValueError: If a callback does.
    """
    if not any(isinstance(callback, BatchSizeFinder) for callback in callbacks):
        return
    if isinstance(data, MultiTaskDataModule) and not data.takes("batch_size"):
        raise ValueError(
            "BatchSizeFinder sets the `batch_size` of the data, and every source has its own; "
            "leave it out in the sources."
        )
    if getattr(data, "batch_size", ...) is None:
        raise ValueError(
            "BatchSizeFinder starts from the data's `batch_size`, which is not set; set it first, "
            "such as `data.batch_size = 32`."
        )


def check_monitors(callbacks: Iterable[object]) -> None:
    """Refuse callbacks that follow a metric the wrong way, or freeze beside the strategy.

    Raises:
        ValueError: If one does; Lightning's `EarlyStopping` takes ``min`` where no mode is given.
    """
    for callback in callbacks:
        if isinstance(callback, BaseFinetuning):
            raise ValueError(  # noqa: TRY004 - a setting of the run
                f"{type(callback).__name__} freezes and adds to the optimiser beside the module, "
                "and sets other learning rates than it prints; use a strategy of `tl.transfer`, "
                "such as LPFT or GradualUnfreezing."
            )
        monitor, mode = getattr(callback, "monitor", None), getattr(callback, "mode", None)
        if isinstance(monitor, str) and isinstance(mode, str):
            check_direction(monitor, mode, type(callback).__name__)


def default_optimizer(parameters: Iterable[Any]) -> torch.optim.Optimizer:
    """SGD with a learning rate of 0.1, Nesterov momentum of 0.9 and weight decay of 5e-4."""
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
