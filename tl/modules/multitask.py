"""Multi-task learning: one shared backbone, one head per task."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from tl.balancing import BalancerSpec, Rescale, make_balancer
from tl.batch import Inputs, differ_in_length, join, said_shapes, shapes_of, size_of, views_of
from tl.modules.balanced import BalancedStep
from tl.modules.batch import AnyBatch, Outputs
from tl.modules.batch_norm import per_source_statistics, source_statistics
from tl.modules.features import Features, name_tasks
from tl.modules.hooks import TrainerHooks
from tl.modules.hyperparameters import keep_hyperparameters
from tl.private.lightning import synchronises_batch_norm
from tl.private.torch import keep_out_of_ddp
from tl.tasks import Task, as_task, by_name

BatchNorm = Literal["joint", "per_source", "per_source_statistics"]


class MultiTaskModule(TrainerHooks):
    """Train any number of tasks from any number of data sources on one shared backbone.

    ``theta* = argmin sum_i L_i``: the tasks' losses are added, or combined by a balancer. Tasks
    may read one source each, share a source (CIFAR-100's fine and coarse labels), or both. Labels
    may be missing for some samples (-1, or NaN in floats).

    Args:
        backbone: Inputs, such as images ``(N, C, H, W)``, to features ``(N, num_features)``: any
            module with an integer attribute ``num_features``.
        tasks: What to predict, tasks or their fields. The command line sets them from the data.
        batch_norm: What batch norm averages over. ``joint``: one forward pass over all sources
            together, with the statistics of the mixture; the fastest, and suitable if sources look
            alike. ``per_source``: one forward pass per source, each normalised by its own batch in
            training, but with shared running statistics: for sources that look different,
            evaluation does not match training. ``per_source_statistics``: a forward pass and
            running statistics per source (Chang et al., 2019, arXiv:1906.03950, without their
            separate scale and shift), so that evaluation matches training. With a balancer that
            aggregates gradients, ``joint`` trains like ``per_source``: one task's gradient must not
            depend on another's images.
        balancer: How the tasks' losses or gradients become one update: any torchjd ``Scalarizer``
            or ``Aggregator``, or one of ``tl.balancing``; ``shape`` and ``n_tasks`` are filled in.
            By default, the plain sum.
        rescale: Scales the balanced update of the backbone to the norm of the ``mean`` or the
            ``sum`` of the tasks' gradients, and the heads' weights to sum to 1 or the number of
            tasks, for comparisons at the same learning rate; for loss weightings, scales the
            weights of backbone and heads to that sum.
        **shared: As for :class:`SharedBackboneModule`.

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
        **shared: Any,  # noqa: ANN401 - each has its type there
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
            trained = {t.source for t in map(as_task, tasks) if t.trains}
            given = shared.get("penalties") or ()
            penalties = given if isinstance(given, Sequence) else (given,)
            adapts = any(getattr(each, "reads_unlabelled", False) for each in penalties)
            unread = [source for source in sources if source not in trained and not adapts]
            if unread:
                raise ValueError(
                    "`batch_norm='per_source_statistics'` cannot evaluate the source "
                    f"{unread[0]!r}: no task trains on it, so its statistics are never estimated. "
                    "Choose 'joint' or 'per_source', or a penalty of tl.transfer.adaptation."
                )
            name_tasks(backbone, by_name(tasks))  # all its layers must be there
            backbone = per_source_statistics(backbone, sources)
        super().__init__(backbone, tasks, **shared)
        self.batch_norm = batch_norm
        self.balancer = make_balancer(balancer, list(self.trained_tasks), rescale)
        self.balanced: BalancedStep | None = None
        if self.balancer is not None:
            self.balanced = BalancedStep(self.balancer, self.guard)
            keep_out_of_ddp(self, self.balanced.ignored_by_ddp())
        read = {task.source for task in self.trained_tasks.values()}
        if batch_norm == "joint" and len(read) > 1 and self.balancer and self.balancer.needs_rows:
            rank_zero_info(
                f"tl: {self.balancer.name} needs each task's own gradient: training uses one "
                "forward pass per source, with batch norm as in `batch_norm='per_source'`."
            )
        keep_hyperparameters(self, inspect.currentframe())

    def setup(self, stage: str) -> None:
        """Check the data against the heads, and the Trainer against balancer and batch norm."""
        super().setup(stage)
        if self.balanced is not None:
            self.balanced.check(self, stage)
        synced = synchronises_batch_norm(self.trainer.strategy)
        if synced and self.batch_norm == "per_source_statistics":
            raise ValueError(
                "`sync_batchnorm` would replace the statistics per source by one set; leave it "
                "out, or choose another `batch_norm`."
            )

    def forward(self, images: Inputs, source: str | None = None) -> dict[str, Tensor]:
        """Return the outputs of the heads by task, such as logits ``(N, num_classes)``.

        Args:
            images: Normalised inputs, such as images ``(N, C, H, W)``.
            source: Their source, which selects its tasks; required with running statistics per
                source, which it selects too.
        """
        self.source.need()
        features = self.features({source: images})[source]
        return {
            name: self.output(name, features)
            for name, task in self.tasks.items()
            if source is None or task.source == source
        }

    def features(self, images: Mapping[str | None, Inputs]) -> dict[str | None, Features]:
        """Return what heads read by source: from one forward pass, or one per source."""
        rows = self.balancer is not None and self.balancer.needs_rows and self.training
        rows = rows or differ_in_length(images.values())  # without batch norm a pass each is equal
        if self.batch_norm == "joint" and len(images) > 1 and not rows:
            images = {s: self.reader.in_one_pass(inputs, s) for s, inputs in images.items()}
            rows = any(views_of(inputs) is not None for inputs in images.values())  # two passes
        if self.batch_norm == "joint" and len(images) > 1 and not rows:
            shapes = {source: shapes_of(inputs) for source, inputs in images.items()}
            if len(set(shapes.values())) > 1:
                said = [f"{s} {said_shapes(shape)}" for s, shape in shapes.items()]
                raise ValueError(
                    f"Sources of different image sizes cannot share a forward pass: "
                    f"{', '.join(said)}. Use one size, or set `batch_norm` to 'per_source'."
                )
            sizes = [size_of(inputs) for inputs in images.values()]
            together = self.reader(self.backbone, join(list(images.values())))
            return dict(zip(images, together.split(sizes), strict=True))
        if self.batch_norm != "per_source_statistics":
            return {
                source: self.reader(self.backbone, part, source) for source, part in images.items()
            }
        found: dict[str | None, Features] = {}
        for source, pixels in images.items():
            if source is None:
                raise ValueError("Running statistics per source need batches that name it.")
            with source_statistics(self.backbone, source):
                found[source] = self.reader(self.backbone, pixels, source)
        return found

    def metric(self, split: str, task: str, what: str) -> str:
        """Return the name that a task's value is logged under: ``val/cifar10/acc``.

        A validation score by labels that training withholds is an oracle's: ``val/sketch/oracle``.
        """
        withheld = getattr(self.datamodule, "withheld_sources", ())
        asked = self.tasks[task]
        if split == "val" and asked.supervised and asked.source in withheld:
            what = "oracle" if what == asked.score else f"oracle_{what}"
        return f"{split}/{task}/{what}"

    # The balancer's part

    def on_train_start(self) -> None:
        """Also start the balancer without the gradients of a step that was never finished."""
        super().on_train_start()
        if self.balanced is not None:
            self.balanced.start()

    def on_train_batch_start(self, batch: AnyBatch, batch_idx: int) -> None:
        """Prepare the step, and copy the balancer's state if the step may be skipped."""
        super().on_train_batch_start(batch, batch_idx)
        if self.balanced is not None:
            self.balanced.begin(self, batch_idx)

    def training_loss(
        self, batch: AnyBatch, losses: dict[str, Tensor], outputs: Outputs, penalty: Tensor | None
    ) -> Tensor:
        """Combine the tasks' losses with the balancer or add them, and add penalties."""
        loss = None
        if self.balanced is not None:
            loss = self.balanced.combine(self, batch, losses, outputs, penalty)
        if loss is None:
            return super().training_loss(batch, losses, outputs, penalty)
        return loss if penalty is None else loss + penalty

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Backpropagate, through the balancer if there is one."""
        if self.balanced is None or not self.balanced.backward(self, loss):
            super().backward(loss, *args, **kwargs)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Lightning's hook
        """Step, then let methods that need it evaluate the step's batches again."""
        super().optimizer_step(*args, **kwargs)
        if self.balanced is not None:
            self.balanced.look_again(self)

    def forget_step(self, tasks: Iterable[str]) -> None:
        """Also restore the balancer to its state before a step that is not taken."""
        super().forget_step(tasks)
        if self.balanced is not None:
            self.balanced.forget()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Also log the current weights."""
        if self.balanced is not None:
            self.step_log.add(self.trainer, self.balanced.end(self.trainer))
        super().on_train_batch_end(outputs, batch, batch_idx)

    def balance(self) -> dict[str, float]:
        """Return current weights and, if known, the relative size of the update, by metric name."""
        return {} if self.balanced is None else self.balanced.values()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Add the parameters of a balancer, without weight decay, to the optimizer's groups."""
        groups = super().parameter_groups()
        learned = [] if self.balancer is None else self.balancer.learned_parameters()
        if learned:
            groups.append({"name": "balancer", "params": learned, "weight_decay": 0.0})
        return groups
