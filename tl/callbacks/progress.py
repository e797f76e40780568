"""The progress bar: one line, updated at a rate that costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich import get_console
from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeRemainingColumn

from tl.callbacks.throughput import SPEEDS

_SHORTEST, _LONGEST = 5, 40  # of the bar, in columns
_BESIDE = 74  # epoch, step, time and three values
_MOST = 3  # values beside the bar
_FIRST = ("train/loss", "val/loss")  # the first of them is shown first


def bar_is_readable() -> bool:
    """Return whether output goes to a terminal or a notebook, which can redraw a line."""
    console = get_console()
    return console.is_interactive or console.is_jupyter


class RunProgressBar(RichProgressBar):
    """Lightning's rich progress bar on one line, updated every n-th step.

    Beside the bar it shows at most three rounded values: the training loss, the score of
    validation or else of training, and the speed. Lightning's collects all metrics at every step
    and breaks into one line per metric in a terminal of 80 columns.

    Args:
        every_n_steps: Training steps between updates.
        refresh_rate: Redraws per second; 0 turns the bar off.

    Raises:
        ValueError: If `every_n_steps` is below 1.
    """

    def __init__(self, every_n_steps: int = 10, refresh_rate: int = 4) -> None:
        if every_n_steps < 1:
            raise ValueError(f"`every_n_steps` must be 1 or more, got {every_n_steps}.")
        super().__init__(refresh_rate=refresh_rate)
        self.every_n_steps = every_n_steps

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        """Return the columns left of the values; the bar takes what space is left."""
        del trainer
        width = max(_SHORTEST, min(_LONGEST, get_console().width - _BESIDE))
        return [
            TextColumn("{task.description}"),
            BarColumn(bar_width=width),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(compact=True),
        ]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar of validation in place of that of training."""
        super().on_validation_start(trainer, pl_module)
        self._show_training(shown=trainer.state.fn != "fit")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar of training again."""
        super().on_validation_end(trainer, pl_module)
        self._show_training(shown=True)

    def _show_training(self, *, shown: bool) -> None:
        if self.progress is not None and self.train_progress_bar_id is not None:
            self.progress.update(self.train_progress_bar_id, visible=shown)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the few values beside the bar, rounded."""
        return few(super().get_metrics(trainer, pl_module))

    def _get_train_description(self, current_epoch: int) -> str:
        last = self.trainer.max_epochs
        return f"epoch {current_epoch + 1}" + (f"/{last}" if last and last > 0 else "")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Update the bar every n-th step, and at an epoch's last."""
        done = batch_idx + 1
        if done % self.every_n_steps == 0 or done == trainer.num_training_batches:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


def few(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Choose and round the values that fit beside a bar.

    Args:
        metrics: All that were logged for the bar, by name.

    Returns:
        A loss, a score and the speed, by a short name, as text.
    """
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    scores = [n for n in numbers if n.startswith(("val/", "train/")) and not n.endswith("loss")]
    chosen = [
        *[name for name in _FIRST if name in numbers][:1],
        *sorted(scores, key=lambda name: not name.startswith("val/"))[:1],
        *[name for name in SPEEDS if name in numbers],
    ]
    others = [n for n in numbers if n not in (*chosen, *scores, *_FIRST, "v_num")]
    foreign = [] if chosen else others  # of a module that is not ours
    return {
        name.replace("train/", "").replace("val/", "val "): _rounded(name, numbers[name])
        for name in [*chosen, *foreign][:_MOST]
    }


def _rounded(name: str, value: float) -> str:
    return f"{value:,.0f}" if name in SPEEDS else f"{value:.3g}"
