"""Forgetting: what the source loses while the target is learned."""

from __future__ import annotations

from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from tl.checkpoints.files import read_checkpoint
from tl.counting import counted
from tl.data.base import ImageDataModule
from tl.modules.base import SharedBackboneModule
from tl.modules.batch import labels_of
from tl.modules.batch_norm import without_sources
from tl.questions.features import evaluating
from tl.tasks import Task
from tl.transfer.network import SourceHead
from tl.transfer.penalties import LwF
from tl.transfer.source import read_head


class SourceAccuracy(Callback):
    """Measure the source's accuracy before and while a target trains: forgetting.

    The source's own head classifies the source's test images, normalised as in its own data, on the
    target's backbone in evaluation mode. Logged are ``transfer/source_acc``, at the start and after
    epochs, ``transfer/source_acc_before`` and ``transfer/forgetting``, the first minus the second
    (Chaudhry et al., 2018, arXiv:1801.10112, section 3.2, for two tasks: the best accuracy before,
    minus the current one). With learning without forgetting the head is the one that keeps
    training, if it belongs to the same source. If the run keeps batch-norm statistics per source,
    their mixture is used. An evaluation takes a forward pass over the source's test set.

    Args:
        data: The source's data.
        checkpoint: The source; by default the run's `init_from`.
        source_task: Source task whose head and labels to use, if there are several.
        every_n_epochs: Epochs between two evaluations, 1 or more; the last epoch is always
            evaluated, even if steps or a callback end the run.

    Raises:
        ValueError: If `every_n_epochs` is out of range; at the run's start, without a source, or
            if its head and its data have different numbers of classes.
    """

    def __init__(
        self,
        data: ImageDataModule,
        checkpoint: str | None = None,
        source_task: str | None = None,
        every_n_epochs: int = 1,
    ) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"`every_n_epochs` must be 1 or more, got {every_n_epochs}.")
        if not isinstance(data, ImageDataModule):
            raise ValueError(  # noqa: TRY004 - a setting of the run
                f"SourceAccuracy reads images: its `data` must be a data module of one source "
                "of "
                f"tl.data, such as CifarDataModule, got {type(data).__name__}."
            )
        self.data = data
        self.checkpoint = checkpoint
        self.source_task = source_task
        self.every_n_epochs = every_n_epochs
        self.before: float | None = None
        self.after: float | None = None
        self._epochs = 0
        self._head = SourceHead(trains=False)
        self._head_task = ""
        self._task: Task | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the source's head and data."""
        path = self.checkpoint or getattr(pl_module, "init_from", None)
        if path is None or not isinstance(pl_module, SharedBackboneModule):
            raise ValueError(
                "SourceAccuracy has no source: give its checkpoint with the run's `init_from` or "
                "with "
                "`checkpoint`."
            )
        head = read_head(path, self.source_task)
        if record := (read_checkpoint(path).get("tl") or {}).get("data"):
            self.data.adopt(record)  # use the source's classes, normalisation and size
        tasks = {task.name: task for task in self.data.tasks}
        task = self.data.task if len(tasks) == 1 else tasks.get(head.task)
        if task is None or task.answers != f"{len(head.weight)} classes":
            classes = ", ".join(f"{name} {task.answers}" for name, task in tasks.items())
            raise ValueError(
                f"The head {head.task!r} of {path} has {len(head.weight)} classes, but `data` of "
                f"SourceAccuracy has {classes}; give it the data that the source was trained on."
            )
        self._task = task
        self._head.set(head)
        self._head_task = head.task
        self.data.prepare_data()
        self.data.setup("test")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure before the first step of a new run."""
        if self.before is None:
            self.before = self.after = self._accuracy(trainer, pl_module)
            for logger in trainer.loggers:
                logger.log_metrics({"transfer/source_acc": self.before}, step=0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure after an epoch."""
        done = trainer.current_epoch + 1
        last = (
            done == trainer.max_epochs
            or trainer.should_stop
            or 0 < trainer.max_steps <= trainer.global_step
        )
        if done % self.every_n_epochs and not last:
            return
        self.after, self._epochs = self._accuracy(trainer, pl_module), done
        before = self.after if self.before is None else self.before
        pl_module.log_dict(
            {
                "transfer/source_acc": self.after,
                "transfer/source_acc_before": before,
                "transfer/forgetting": before - self.after,
            },
            sync_dist=True,
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the forgetting."""
        if self.before is not None and self.after is not None:
            lost = 100 * (self.before - self.after)
            rank_zero_info(
                f"tl: source accuracy {100 * self.before:.1f} % before, {100 * self.after:.1f} % "
                f"after {counted(self._epochs, 'epoch')}: forgetting {lost:+z.1f} points."
            )

    def _kept_head(self, module: SharedBackboneModule) -> SourceHead | None:
        """Return the head that learning without forgetting trains, if it is this source's."""
        if self.checkpoint not in (None, module.init_from):
            return None
        mine = (None, self._head_task)  # unnamed: the source's only head
        kept = (p for p in module.penalties if isinstance(p, LwF) and p.source_task in mine)
        return next((penalty.head for penalty in kept), None)

    @torch.no_grad()
    def _accuracy(self, trainer: Trainer, module: LightningModule) -> float:
        """Return the accuracy on the source's test images."""
        if self._task is None or not isinstance(module, SharedBackboneModule):
            raise ValueError("SourceAccuracy measures only during `fit`.")
        backbone = without_sources(module.backbone)
        head = self._kept_head(module) or self._head.to(module.device)
        right = count = 0
        precision = trainer.precision_plugin
        with evaluating(backbone), torch.random.fork_rng(devices=[]), precision.forward_context():
            for batch in self.data.test_dataloader():
                moved = move_data_to_device(batch, module.device)
                images, targets = self.data.transform(moved, None)
                target = labels_of(self._task, targets)
                answers = head(backbone(precision.convert_input(images)))
                [answered] = self._task.tally(answers, target)
                right += int(answered)
                count += int(self._task.present(target))
        return right / max(count, 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the accuracy before the run."""
        return {"before": self.before, "after": self.after, "epochs": self._epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the accuracy before the run."""
        self.before, self.after = state_dict["before"], state_dict["after"]
        self._epochs = state_dict["epochs"]
