"""What TensorBoard shows of a run besides its curves."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams as hparams_summary

from tl.callbacks.attention import show_attention
from tl.callbacks.board import (
    add_summaries,
    as_block,
    as_markdown,
    how_started,
    image_grid,
    statistics_of,
    writer_of,
)
from tl.callbacks.charts import comparison, hyperparameters, layout
from tl.callbacks.results import versions
from tl.callbacks.surroundings import description_of
from tl.callbacks.task_names import name_tasks
from tl.callbacks.task_pictures import TaskPictures
from tl.modules.base import SharedBackboneModule
from tl.modules.batch import AnyBatch, by_source
from tl.modules.batch_norm import source_statistics
from tl.modules.features import FeatureReader
from tl.modules.picture_log import log_image, log_text, takers
from tl.tasks import Task
from tl.tasks.figures import display_images, drawable_part

_IMAGES = 4  # dimensions of a batch of them


class Dashboard(Callback):
    """Fill TensorBoard: tasks side by side, pictures, model graph, hyper-parameters, texts.

    *Custom scalars* holds a chart per metric with all tasks in it. *Images* holds what each task
    shows of its answers, such as the confusion matrix and the most confident mistakes of a
    classification, augmented training images, and what the tasks of an MTAN attend to. *Graphs*
    holds the network, *HParams* the hyper-parameters with the metrics of validation and test,
    *Text* what the data are, what was transferred, the versions, and at the end the accuracy of
    each class and the classes most often confused.

    Pictures, texts and hyper-parameters go to Weights & Biases and MLflow too, if the Trainer has
    their loggers. At the end of a run the figures of the best checkpoint's validation are written
    to its folder, ``confusion_<task>.png`` and so on; those of a test to its subfolder ``test``.
    Single samples are those that the first process saw; a confusion matrix counts all. Between
    epochs the matrix is an image without class names.

    Args:
        every_n_epochs: Epochs between the pictures of validation; 0 turns them off, also those at
            the end.
        mistakes: How many samples with the worst answers to show per task.
        images: How many augmented training images to show per source.
        graph: Show the network.

    Raises:
        ValueError: If a number is negative.
    """

    def __init__(
        self, every_n_epochs: int = 5, mistakes: int = 16, images: int = 32, graph: bool = True
    ) -> None:
        for name, value in (
            ("every_n_epochs", every_n_epochs),
            ("mistakes", mistakes),
            ("images", images),
        ):
            if value < 0:
                raise ValueError(f"`{name}` must be 0 or more, got {value}.")
        self.every_n_epochs = every_n_epochs
        self.mistakes = mistakes
        self.images = images
        self.graph = graph
        self._of_tasks = TaskPictures(mistakes)
        self._shown = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Have the curves of a single task in the charts of runs with several."""
        name_tasks(trainer, pl_module)

    # The start of a run

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write texts, layout and hyper-parameters, which need no training."""
        self._shown = False
        self._of_tasks.begin(trainer)
        loggers = takers(trainer)
        if not loggers or not isinstance(pl_module, SharedBackboneModule):
            return
        if (description := description_of(trainer)) is not None:
            log_text(trainer, "run/data", as_markdown(description))
        if pl_module.transfer_report is not None:
            log_text(trainer, "run/transfer", as_block(pl_module.transfer_report.table()))
        elif pl_module.provenance is not None:
            log_text(trainer, "run/transfer", as_markdown(pl_module.provenance))
        if table := pl_module.strategy_table():
            log_text(trainer, "run/strategy", as_block(table))
        log_text(trainer, "run/started", as_markdown(how_started()))
        log_text(trainer, "run/versions", as_markdown(versions()))
        settings = hyperparameters(trainer, pl_module)
        writer = writer_of(trainer)
        if writer is not None:
            writer.add_custom_scalars(layout(pl_module))
            named = name_tasks(trainer, pl_module)
            add_summaries(writer, *comparison(settings, pl_module, named=named))
        for logger in loggers:
            if not isinstance(logger, TensorBoardLogger):
                # beside the module's own, whose names these would be
                logger.log_hyperparams({f"run/{key}": value for key, value in settings.items()})

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: AnyBatch, batch_idx: int
    ) -> None:
        """Show the first batch's images, and the network that they run through."""
        if self._shown:
            return
        self._shown = True
        writer = writer_of(trainer)
        if not takers(trainer) or not isinstance(pl_module, SharedBackboneModule):
            return
        parts = by_source(batch)
        for source, (images, _) in parts.items():
            statistics = statistics_of(trainer, source)
            pixels = drawable_part(images)
            if self.images and pixels is not None and pixels.ndim == _IMAGES:
                grid = image_grid(display_images(pixels[: self.images], statistics))
                tag = "train/augmented" if source is None else f"train/augmented/{source}"
                log_image(trainer, tag, grid, trainer.global_step)
        if self.graph and writer is not None:
            source, (images, _) = next(iter(parts.items()))
            if isinstance(images, Tensor):
                add_graph(writer, pl_module, images[:1], source)

    # Validation

    def _collects(self, trainer: Trainer) -> bool:
        """Whether pictures are collected: of each validation, as any may be the best."""
        return bool(not trainer.sanity_checking and self.every_n_epochs and trainer.loggers)

    def _draws(self, trainer: Trainer) -> bool:
        """Whether the pictures of this validation or test are shown."""
        if trainer.state.fn != "fit":
            return True
        last = trainer.current_epoch + 1 == trainer.max_epochs
        last = last or 0 < trainer.max_steps <= trainer.global_step
        return last or (trainer.current_epoch + 1) % self.every_n_epochs == 0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop the pictures of the last validation, unless its checkpoint is the best."""
        self._of_tasks.drop(trainer)

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Let each task look at a batch."""
        if not self._collects(trainer) or not isinstance(pl_module, SharedBackboneModule):
            return
        self._of_tasks.add(trainer, pl_module, outputs, batch, dataloader_idx)
        if batch_idx == dataloader_idx == 0 and self._draws(trainer):
            show_attention(trainer, pl_module, batch)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the pictures that the tasks have collected."""
        if self._collects(trainer) and isinstance(pl_module, SharedBackboneModule):
            self._of_tasks.show(trainer, pl_module, draw=self._draws(trainer))

    on_test_epoch_end = on_validation_epoch_end

    # The end

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the figures of the best checkpoint's validation, and write its tables."""
        self._of_tasks.finish(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Mark the run as finished in the HParams tab."""
        writer = writer_of(trainer)
        if writer is not None:
            _, _, end = hparams_summary({}, {})  # type: ignore[no-untyped-call]
            add_summaries(writer, end)
            writer.flush()


def add_graph(
    writer: SummaryWriter, module: SharedBackboneModule, images: Tensor, source: str | None
) -> None:
    """Trace a copy of the network in evaluation mode, so that the run itself is not touched."""
    network = copy.deepcopy(nn.ModuleDict({"backbone": module.backbone, "heads": module.heads}))
    traced = Network(network, module.tasks).eval().float()
    try:
        with (
            torch.no_grad(),
            torch.autocast(images.device.type, enabled=False),
            source_statistics(traced, source or ""),
            warnings.catch_warnings(),
        ):
            # TensorBoard's graph is made of TorchScript, which torch calls deprecated
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            # one size of images is enough for a picture of the network
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            writer.add_graph(traced, images.float())
    except Exception as error:  # noqa: BLE001 - of tracing: the step that follows raises the rest
        rank_zero_warn(f"TensorBoard shows no graph: tracing the network failed ({error}).")


class Network(nn.Module):
    """Backbone and heads as one module that returns a tuple, as tracing wants it.

    Args:
        parts: ``backbone``, and ``heads`` by task.
        tasks: The tasks by name; those that use another's head may be among them.
    """

    def __init__(self, parts: nn.ModuleDict, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.backbone = parts["backbone"]
        self.heads = parts["heads"]
        self.reader = FeatureReader(tasks[name] for name, _ in self.heads.named_children())

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what all heads give."""
        found = self.reader(self.backbone, images)
        pairs = zip(self.reader.tasks, self.heads.children(), strict=True)
        return tuple(found.read_by(task, head) for task, head in pairs)
