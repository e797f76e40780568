"""A line per epoch: losses, each task's score, time and speed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich import get_console

from tl.callbacks.checkpoint import best_of
from tl.callbacks.knn_monitor import KNN
from tl.callbacks.progress import bar_is_readable
from tl.callbacks.surroundings import callbacks_of
from tl.callbacks.throughput import IN_BAR, SPEEDS, Throughput
from tl.modules.base import SharedBackboneModule
from tl.modules.score_log import shared_scores
from tl.report.closing import duration

_NARROWEST = 7  # a number, and what is left of a task's name
_REPEAT = 30  # lines between two headers
_LOADER = "/dataloader_idx_"
_LARGE = 1000


class EpochTable(Callback):
    """Print a table of the run while it runs: a line per epoch, in a terminal or a file.

    Columns: the training loss of the last logged steps, the validation loss, the mean of the
    tasks' common score, the deciding score of each task, the accuracy of nearest neighbours where a
    `KNNMonitor` measures it, the metric that chooses the checkpoint if it is another one, the
    seconds of the epoch (after a resume within it, of the rest), and images or texts per second.
    ``*`` marks the best epoch so far, by that metric; of several validations in it, the line shows
    the best one, and of those in other epochs the last. In a terminal, columns that do not fit are
    left out and long names are shortened; a file gets all.

    Attributes:
        best_epoch: The best epoch so far, counted from 0; ``None`` without validation.
        best: The metrics of validation at that epoch, by name.
    """

    def __init__(self) -> None:
        self.best_epoch: int | None = None
        self.best: dict[str, float] = {}
        self._fresh: dict[str, float] = {}  # of the validation in this epoch
        self._epoch: int | None = None  # whose line is due
        self._start = time.perf_counter()
        self._images = (0, 0.0)
        self._widths: list[tuple[str, int]] = []
        self._columns: set[str] = set()
        self._lines = 0

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: the best epoch and its scores."""
        return {"best_epoch": self.best_epoch, "best": dict(self.best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the best epoch of the run that resumes."""
        self.best_epoch = state_dict.get("best_epoch")
        self.best = dict(state_dict.get("best") or {})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start a new table; a best checkpoint that is gone is not the best any more."""
        choice = best_of(trainer)
        if choice is not None and choice.monitor is not None and choice.best_model_score is None:
            self.best_epoch, self.best = None, {}
        self._widths, self._lines, self._epoch, self._fresh = [], 0, None, {}
        if trainer.fit_loop.restarted_mid_epoch:  # whose start is not announced again
            self._begin(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the last epoch, whose training metrics are complete by now."""
        self._print(trainer, pl_module)
        self._begin(trainer)

    def _begin(self, trainer: Trainer) -> None:
        self._epoch, self._start = trainer.current_epoch, time.perf_counter()
        speed = speed_of(trainer)
        self._images = (speed.images, speed.seconds) if speed else (0, 0.0)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the scores, and whether they are the best so far."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        found = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val")
        }
        self._fresh = found
        choice = best_of(trainer)
        monitor = choice.monitor if choice is not None else None
        if choice is None or monitor not in found:
            return
        every = choice.every_n_epochs  # others cannot be saved as the best
        if every and (trainer.current_epoch + 1) % every:
            return
        now, before = found[monitor], self.best.get(monitor)
        better = before is None or (now > before if choice.mode == "max" else now < before)
        if better and now == now:  # noqa: PLR0124 - not NaN
            self.best_epoch, self.best = trainer.current_epoch, found

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the last epoch."""
        self._print(trainer, pl_module)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Print the line of an epoch that was complete when the run ended."""
        if trainer.fit_loop.epoch_loop.done:
            self._print(trainer, pl_module)

    def _print(self, trainer: Trainer, module: LightningModule) -> None:
        epoch, self._epoch = self._epoch, None
        if epoch is None or not trainer.is_global_zero:
            return
        fresh, self._fresh = self._fresh, {}
        seconds = time.perf_counter() - self._start
        last = trainer.max_epochs
        number = f"{epoch + 1}/{last}" if last and last > 0 else str(epoch + 1)
        mark = ""
        if fresh and epoch == self.best_epoch:
            mark, fresh = "*", self.best  # of several validations in an epoch, the best one
        train = trainer.callback_metrics.get("train/loss")
        columns = score_columns(trainer, module)
        if self._widths and set(columns) != self._columns:  # the first validation came later
            self._widths, self._lines = [], _REPEAT
        self._columns = set(columns)
        cells = {
            "epoch": f"{number}{mark}",
            "train loss": "-" if train is None else rounded(float(train)),
            **{
                label: rounded(fresh[name]) if name in fresh else "-"
                for label, name in columns.items()
            },
            "time": duration(seconds),
        }
        if (speed := speed_of(trainer)) and speed.seconds > self._images[1]:
            images = speed.images - self._images[0]
            cells[IN_BAR[speed.rate]] = f"{images / (speed.seconds - self._images[1]):,.0f}"
        rate = IN_BAR[speed.rate] if speed else SPEEDS[0]
        for line in self._as_lines(cells, rate, bool(last and last > 0)):
            print(line, flush=True)  # noqa: T201

    def _as_lines(self, cells: Mapping[str, str], rate: str, counted: bool) -> list[str]:
        if not self._widths:
            width = get_console().width if bar_is_readable() else None
            widest = {"epoch": 2 * len(cells["epoch"].partition("/")[2]) + 2 if counted else 6}
            found = {
                label: max(len(label), len(cell), widest.get(label, 0))
                for label, cell in cells.items()
            }
            # the first epoch may be too short to be timed
            self._widths = fitted({**found, rate: max(7, found.get(rate, 0))}, width)
        header = self._lines % _REPEAT == 0
        self._lines += 1
        shown = [(label, middle_cut(label, width), width) for label, width in self._widths]
        row = "  ".join(cells.get(label, "-").rjust(width) for label, _, width in shown)
        if not header:
            return [row]
        legend = [] if self._lines > 1 else ["Scores of validation by epoch; * is the best so far."]
        return [*legend, "  ".join(name.rjust(width) for _, name, width in shown), row]


def score_columns(trainer: Trainer, module: LightningModule) -> dict[str, str]:
    """Return the metrics of validation that a line shows, by label.

    Args:
        trainer: The Trainer, which knows what was logged.
        module: The module; of one that is not ours, the first four metrics are shown.
    """
    known = [name for name in trainer.callback_metrics if name.startswith("val")]
    if not isinstance(module, SharedBackboneModule):
        return {name: name for name in known[:4]}
    found = {"val loss": "val/loss"}
    shared = shared_scores(module.trained_tasks.values())
    decide = {task.score for task in module.trained_tasks.values()}
    common = next(iter(decide)) if len(decide) == 1 else None
    if common in shared:
        found[f"val {common}"] = f"val/{common}"
    for name, task in module.tasks.items():
        metric = module.metric("val", name, task.score)
        if metric in found.values():
            continue  # the only task
        label = name if task.score == common else f"{name} {task.score}"
        several = sorted(each for each in known if each.startswith(metric + _LOADER))
        for each in several or [metric]:
            number = each.partition(_LOADER)[2]
            found[f"{label} {number}" if number else label] = each
    for metric in known:
        if metric.endswith(f"/{KNN}"):
            found[" ".join(metric.split("/")[1:])] = metric
    choice = best_of(trainer)
    if choice is not None and choice.monitor and choice.monitor not in found.values():
        found[choice.monitor.replace("val/", "val ", 1)] = choice.monitor  # what `*` goes by
    return {label: metric for label, metric in found.items() if metric in known}


def fitted(widths: Mapping[str, int], most: int | None) -> list[tuple[str, int]]:
    """Fit columns, two spaces apart, into a width.

    Args:
        widths: Width by label, as wanted.
        most: The width; ``None`` for any.

    Returns:
        Label and width of the columns that stay.
    """
    kept = dict(widths)

    def total() -> int:
        return sum(kept.values()) + 2 * (len(kept) - 1)

    for dropped in (*SPEEDS, "train loss", "time"):
        if most is not None and total() > most:
            kept.pop(dropped, None)
    while most is not None and total() > most and max(kept.values()) > _NARROWEST:
        widest = max(kept, key=lambda label: kept[label])
        kept[widest] -= 1
    return list(kept.items())


def middle_cut(name: str, width: int) -> str:
    """Shorten a name in its middle: what tells two names apart is often at the end."""
    if len(name) <= width:
        return name
    tail = (width - 1 + 1) // 2
    return f"{name[: width - 1 - tail]}…{name[-tail:]}"


def rounded(value: float) -> str:
    """Return a score or loss in a few digits."""
    return f"{value:.4f}" if abs(value) < _LARGE else f"{value:.4g}"


def speed_of(trainer: Trainer) -> Throughput | None:
    """Return the callback that counts images, if there is one."""
    return next(iter(callbacks_of(trainer, Throughput)), None)
