"""Pictures and tables of tasks: collected over a split, shown and written at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from tl.callbacks.board import class_names_of, statistics_of
from tl.checkpoints.whole_files import write_whole
from tl.modules.base import SharedBackboneModule
from tl.modules.batch import by_source, source_of
from tl.modules.evaluation import loader_suffix
from tl.modules.picture_log import log_image, log_png, log_text, takers
from tl.tasks.figures import png
from tl.tasks.pictures import Pictures, View

_Kept = tuple[str, Pictures, View, int]  # split, pictures, view and step


class TaskPictures:
    """Lets tasks look at the batches of a split, and shows what they have collected.

    Between epochs, images go to the loggers. At the end of a run, after a test and after a
    stand-alone validation, figures and tables follow, and the figures are written as files.

    Args:
        mistakes: How many samples with the worst answers to show per task.
    """

    def __init__(self, mistakes: int) -> None:
        self.mistakes = mistakes
        self._collected: dict[tuple[int, str], Pictures | None] = {}  # by loader and task
        self._kept: dict[str, _Kept] = {}  # of the last validation, by task and loader
        self._drawn: set[str] = set()  # figures that the loggers have of it, by tag

    def begin(self) -> None:
        """Forget everything, before a run."""
        self._collected, self._kept, self._drawn = {}, {}, set()

    def drop(self) -> None:
        """Forget what was collected, before a split."""
        self._collected = {}

    def add(
        self,
        trainer: Trainer,
        module: SharedBackboneModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        loader: int,
    ) -> None:
        """Let each task look at a batch."""
        parts = by_source(batch)
        for name, (output, target) in outputs.items():
            task = module.tasks[name]
            pictures = self._of(module, loader, name)
            if pictures is not None:
                inputs = parts[source_of(task, parts)][0] if trainer.is_global_zero else None
                pictures.add(inputs, output, target)

    def _of(self, module: SharedBackboneModule, loader: int, task: str) -> Pictures | None:
        if (loader, task) not in self._collected:
            self._collected[loader, task] = module.tasks[task].pictures(self.mistakes)
        return self._collected[loader, task]

    def show(self, trainer: Trainer, module: SharedBackboneModule) -> None:
        """Show what was collected, at the end of a split; all processes call this."""
        split = "test" if trainer.testing else "val"
        verb = trainer.state.fn
        self._kept, self._drawn = {}, set()
        # as the table of epochs counts; an evaluation does not know its checkpoint's
        epoch = f", epoch {trainer.current_epoch + 1}" if verb == "fit" else ""
        count = module.count_loaders()
        for loader in range(count):
            suffix = loader_suffix(loader, count)
            for name, task in module.tasks.items():
                # every process takes part, also one that saw no sample of this task
                pictures = self._of(module, loader, name)
                if pictures is None:
                    continue
                if pictures.counts is not None:
                    counts = pictures.counts.to(module.device)
                    pictures.counts = trainer.strategy.reduce(counts, reduce_op="sum")
                title = f"{name}{suffix}, {split}{epoch}"
                statistics = statistics_of(trainer, task.source)
                view = View(title, class_names_of(trainer, name), statistics)
                self._kept[f"{name}{suffix}"] = split, pictures, view, trainer.global_step
        self._collected = {}
        if verb is not None and verb != "fit":
            self.finish(trainer, verb.value)
        elif trainer.current_epoch + 1 != trainer.max_epochs:
            self._show_between(trainer)

    def _show_between(self, trainer: Trainer) -> None:
        if not takers(trainer):
            return
        for task, (split, pictures, view, step) in self._kept.items():
            for what, shown in pictures.quick(view).items():
                tag = f"{split}/{what}/{task}"
                if isinstance(shown, Tensor):
                    log_image(trainer, tag, shown, step)
                else:
                    log_png(trainer, tag, png(shown), step)
                    self._drawn.add(tag)

    def finish(self, trainer: Trainer, folder: str = "") -> None:
        """Draw the figures of the last split, and write its tables; all processes call this.

        Args:
            trainer: The Trainer.
            folder: Where the files go, inside the run's folder.
        """
        run = trainer.log_dir if trainer.loggers else None  # the first process tells the others
        kept, self._kept = self._kept, {}
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        place = None if run is None else Path(run) / folder
        if place is None and not takers(trainer):
            return
        for task, (split, pictures, view, step) in kept.items():
            for what, figure in pictures.figures(view).items():
                content = png(figure)
                if f"{split}/{what}/{task}" not in self._drawn:
                    log_png(trainer, f"{split}/{what}/{task}", content, step)
                if place is not None:
                    _write(place / f"{what}_{task.replace('/', '_')}.png", content)
            for what, table in pictures.tables(view).items():
                log_text(trainer, f"{split}/{what}/{task}", table.markdown(), step)


def _write(path: Path, content: bytes) -> None:
    """Write a picture; one that cannot be written does not fail a run."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, [content])
    except OSError as error:
        rank_zero_warn(f"tl: no {path.name} in {path.parent}: {error.strerror or error}.")
