"""Multi-task learning: one shared backbone, one head per task."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from tl.balancing import BalancerSpec, Rescale, make_balancer
from tl.batch import Inputs, join, said_shapes, shapes_of, size_of
from tl.modules.balanced import BalancedModule
from tl.modules.base import CompileMode, Interval, default_optimizer
from tl.modules.batch_norm import per_source_statistics, source_statistics
from tl.modules.features import Features
from tl.modules.fine_tuning import Penalties
from tl.modules.finite import OnNonFinite
from tl.modules.hyperparameters import keep_hyperparameters
from tl.tasks import Task, as_task
from tl.transfer.freezing import Strategy

BatchNorm = Literal["joint", "per_source", "per_source_statistics"]


class MultiTaskModule(BalancedModule):
    """Train any number of tasks over any number of data sources on one shared backbone.

    ``theta* = argmin sum_i L_i``: the tasks' losses are added, or combined by a balancer. Tasks
    may read one source each, share a source (CIFAR-100's fine and coarse labels), or both. Labels
    may be missing for some samples (-1, or NaN in floats).

    Args:
        backbone: Images ``(N, 3, H, W)`` to features ``(N, num_features)``: any module with an
            integer attribute ``num_features``.
        tasks: What to predict, tasks or their fields. The command line fills it in from the data.
        batch_norm: What batch norm averages over. ``joint``: one pass over all sources' images
            together, statistics of the mixture; the fastest, and right where sources look alike.
            ``per_source``: a pass for each source, each normalised by its own batch in training,
            with one set of running statistics for all: for sources that look different,
            evaluation then does not match training. ``per_source_statistics``: a pass and running
            statistics for each source (Chang et al., 2019, arXiv:1906.03950, without their
            separate scale and shift), so that evaluation matches training. With a balancer that
            aggregates gradients, ``joint`` takes a pass for each source in training too, as
            ``per_source`` does: one task's gradient must not depend on another's images.
        balancer: How the tasks' losses or gradients become one update: any torchjd ``Scalarizer``
            or ``Aggregator``, or one of ``tl.balancing``; ``shape`` and ``n_tasks`` are filled in.
            Without one, the plain sum.
        rescale: Brings the balanced update of the backbone to the norm of the ``mean`` or the
            ``sum`` of the tasks' gradients and the heads' weights to the sum 1 or the number of
            tasks, for comparisons at one learning rate; for loss weightings, the weights of
            backbone and heads to that sum.
        init_from: Checkpoint whose weights the backbone starts from: one of this framework, a
            plain state dict, or safetensors. Not for resuming a run: that is ``ckpt_path``.
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

    Raises:
        ValueError: If the backbone lacks ``num_features`` or an argument is out of range.
    """

    def __init__(
        self,
        backbone: nn.Module,
        tasks: Sequence[Task | dict[str, Any]],
        batch_norm: BatchNorm = "joint",
        balancer: BalancerSpec = None,
        rescale: Rescale = "none",
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
        if batch_norm not in get_args(BatchNorm):
            raise ValueError(
                f"`batch_norm` must be one of {', '.join(get_args(BatchNorm))}, got {batch_norm!r}."
            )
        if batch_norm == "per_source_statistics":
            sources = sorted({t.source for t in map(as_task, tasks) if t.source is not None})
            if not sources:
                raise ValueError(
                    "`batch_norm='per_source_statistics'` needs tasks that name their `source`."
                )
            backbone = per_source_statistics(backbone, sources)
        super().__init__(
            backbone,
            tasks,
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
        self.batch_norm = batch_norm
        self.use_balancer(make_balancer(balancer, list(self.tasks), rescale))
        read = {task.source for task in self.tasks.values()}
        if batch_norm == "joint" and len(read) > 1 and self.balancer and self.balancer.needs_rows:
            rank_zero_info(
                f"tl: {self.balancer.name} needs each task's own gradient: training takes a pass "
                "for each source, with batch norm as in `batch_norm='per_source'`."
            )
        keep_hyperparameters(self, inspect.currentframe())

    def setup(self, stage: str) -> None:
        """Check the data against the heads, and the Trainer against the batch norm."""
        super().setup(stage)
        synced = getattr(self.trainer.strategy, "_layer_sync", None) is not None
        if synced and self.batch_norm == "per_source_statistics":
            raise ValueError(
                "`sync_batchnorm` would put one set of statistics in the place of those per "
                "source; leave it out, or choose another `batch_norm`."
            )

    def forward(self, images: Inputs, source: str | None = None) -> dict[str, Tensor]:
        """Return logits ``(N, num_classes)`` by task of normalised images ``(N, 3, H, W)``.

        Args:
            images: The images.
            source: Where they come from; needed with running statistics per source, where it
                chooses among them, and then only that source's tasks answer.
        """
        self.need_source()
        features = self.features({source: images})[source]
        return {
            name: features.read_by(task, self.heads[name])
            for name, task in self.tasks.items()
            if source is None or task.source == source
        }

    def features(self, images: Mapping[str | None, Inputs]) -> dict[str | None, Features]:
        """Return what heads read by source: one pass over all images, or one for each source."""
        rows = self.balancer is not None and self.balancer.needs_rows and self.training
        if self.batch_norm == "joint" and len(images) > 1 and not rows:
            shapes = {source: shapes_of(inputs) for source, inputs in images.items()}
            if len(set(shapes.values())) > 1:
                said = [f"{s} {said_shapes(shape)}" for s, shape in shapes.items()]
                raise ValueError(
                    f"Sources of different image sizes cannot share a pass: {', '.join(said)}. "
                    "Give them one size, or set `batch_norm` to 'per_source'."
                )
            sizes = [size_of(inputs) for inputs in images.values()]
            together = self.reader(self.backbone, join(list(images.values())))
            return dict(zip(images, together.split(sizes), strict=True))
        if self.batch_norm != "per_source_statistics":
            return {source: self.reader(self.backbone, part) for source, part in images.items()}
        found: dict[str | None, Features] = {}
        for source, pixels in images.items():
            if source is None:
                raise ValueError("Running statistics per source need batches that name it.")
            with source_statistics(self.backbone, source):
                found[source] = self.reader(self.backbone, pixels)
        return found

    def metric(self, split: str, task: str, what: str) -> str:
        """Name under which a task's value is logged: ``val/cifar10/acc``."""
        return f"{split}/{task}/{what}"
