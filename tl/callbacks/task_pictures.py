"""Pictures and tables of tasks: collected over a split, shown and written at its end."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from tl.callbacks.board import class_names_of, statistics_of
from tl.callbacks.checkpoint import best_of
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
    stand-alone validation, figures and tables follow, and the figures are written as files. Those
    of a run are of the validation whose checkpoint is the best; without one, or if it was saved
    before a resume, of the last validation. Their titles name the epoch.

    Args:
        mistakes: How many samples with the worst answers to show per task.
    """

    def __init__(self, mistakes: int) -> None:
        self.mistakes = mistakes
        self._collected: dict[tuple[int, str], Pictures | None] = {}  # by loader and task
        self._kept: dict[str, _Kept] = {}  # of the last validation, by task and loader
        self._drawn: set[str] = set()  # figures that the loggers have of it, by tag
        self._best: dict[str, _Kept] = {}  # of the best validation
        self._drawn_of_best: set[str] = set()
        self._score: float | None = None  # of the best checkpoint

    def begin(self, trainer: Trainer) -> None:
        """Forget everything, before a run."""
        self._collected, self._kept, self._drawn = {}, {}, set()
        self._best, self._score = {}, _best_score(trainer)

    def drop(self, trainer: Trainer) -> None:
        """Forget what was collected, before a split; the best checkpoint's pictures are kept."""
        self._collected = {}
        self._note_best(trainer)

    def _note_best(self, trainer: Trainer) -> None:
        """Keep the pictures of the last validation if the best checkpoint was saved after it."""
        best, score = best_of(trainer), _best_score(trainer)
        if best is None or score is None or score == self._score:
            return
        better = self._score is None or (score > self._score) == (best.mode == "max")
        # otherwise the better one could not be written, and an earlier one is the best again
        self._best, self._drawn_of_best = (self._kept if better else {}), self._drawn
        self._score = score

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

    def show(self, trainer: Trainer, module: SharedBackboneModule, *, draw: bool = True) -> None:
        """Show what was collected, at the end of a split; all processes call this.

        Args:
            trainer: The Trainer.
            module: The module.
            draw: In a run, show it now, between epochs; otherwise it is kept for the end.
        """
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
        elif draw and trainer.current_epoch + 1 != trainer.max_epochs:
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
        """Draw the figures of a split, and write its tables; all processes call this.

        After training these are of the best validation that the run has pictures of, otherwise
        of the last.

        Args:
            trainer: The Trainer.
            folder: Where the files go, inside the run's folder.
        """
        run = trainer.log_dir if trainer.loggers else None  # the first process tells the others
        kept, drawn = self._kept, self._drawn
        if trainer.state.fn == "fit":
            self._note_best(trainer)
            if self._best and self._score == _best_score(trainer):
                kept, drawn = self._best, self._drawn_of_best
                kept = {task: _called_best(one, trainer.global_step) for task, one in kept.items()}
        self._kept, self._best = {}, {}
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        place = None if run is None else Path(run) / folder
        if place is None and not takers(trainer):
            return
        self._write(trainer, kept, drawn, place)

    @staticmethod
    def _write(
        trainer: Trainer, kept: dict[str, _Kept], drawn: Collection[str], place: Path | None
    ) -> None:
        for task, (split, pictures, view, step) in kept.items():
            for what, figure in pictures.figures(view).items():
                content = png(figure)
                if f"{split}/{what}/{task}" not in drawn:
                    log_png(trainer, f"{split}/{what}/{task}", content, step)
                if place is not None:
                    _write(place / f"{what}_{task.replace('/', '_')}.png", content)
            for what, table in pictures.tables(view).items():
                log_text(trainer, f"{split}/{what}/{task}", table.markdown(), step)


def _best_score(trainer: Trainer) -> float | None:
    """Return the score of the best checkpoint; ``None`` if there is none."""
    best = best_of(trainer)
    score = None if best is None else best.best_model_score
    return None if score is None else float(score)


def _called_best(one: _Kept, step: int) -> _Kept:
    """Return pictures whose title says that they are of the best checkpoint, for the last step."""
    split, pictures, view, _ = one
    return split, pictures, replace(view, title=f"{view.title}, the best checkpoint"), step


def _write(path: Path, content: bytes) -> None:
    """Write a picture; one that cannot be written does not fail a run."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, [content])
    except OSError as error:
        rank_zero_warn(f"tl: no {path.name} in {path.parent}: {error.strerror or error}.")
