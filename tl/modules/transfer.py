"""Transfer: start a target task from a source's weights and go on training."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from tl.batch import Inputs
from tl.modules.base import CompileMode, Interval, SharedBackboneModule, default_optimizer
from tl.modules.features import Features
from tl.modules.fine_tuning import Penalties
from tl.modules.finite import OnNonFinite
from tl.modules.hyperparameters import keep_hyperparameters
from tl.tasks import Task, as_task
from tl.transfer.freezing import Strategy


class TransferModule(SharedBackboneModule):
    """Train one task, from scratch or from the weights of a source.

    ``theta_t* = argmin L_t`` from ``theta_s*``: with `init_from` the backbone starts from the
    source's weights, the head is new, and everything goes on training.

    Args:
        backbone: Images ``(N, 3, H, W)`` to features ``(N, num_features)``: any module with an
            integer attribute ``num_features``.
        task: What to predict, a task or its fields. The command line fills it in from the data.
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
            a list.
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

    Raises:
        ValueError: If the backbone lacks ``num_features`` or an argument is out of range.
    """

    def __init__(
        self,
        backbone: nn.Module,
        task: Task | dict[str, Any] | None,
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
        if task is None:
            raise ValueError(
                "There is no single `task`: the data have several. Choose one kind of labels, such "
                "as `targets: fine`, or train them together in a MultiTaskModule."
            )
        super().__init__(
            backbone,
            [as_task(task)],
            init_from=init_from,
            rename=rename,
            reinit=reinit,
            init_heads=init_heads,
            strategy=strategy,
            penalties=penalties,
            optimizer=optimizer,
            scheduler=scheduler,
            scheduler_interval=scheduler_interval,
            label_smoothing=label_smoothing,
            channels_last=channels_last,
            compile=compile,
            on_nonfinite=on_nonfinite,
            max_skips=max_skips,
        )
        self.task = next(iter(self.tasks.values()))
        keep_hyperparameters(self, inspect.currentframe())

    def forward(self, images: Inputs) -> Tensor:
        """Return logits ``(N, num_classes)`` of normalised images ``(N, 3, H, W)``."""
        self.need_source()
        found = self.reader(self.backbone, images)
        return found.read_by(self.task, self.heads[self.task.name])

    def features(self, images: Mapping[str | None, Inputs]) -> dict[str | None, Features]:
        """Return what heads read by source; there is one."""
        return {source: self.reader(self.backbone, part) for source, part in images.items()}

    def metric(self, split: str, task: str, what: str) -> str:
        """Name under which a value is logged: ``val/acc``."""
        del task
        return f"{split}/{what}"
