"""A run's folder as an object: its history, its results, its best model."""

from __future__ import annotations

import csv
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl.counting import counted
from tl.report.frame import Table, as_frame
from tl.runs.folders import best_checkpoint, results_in
from tl.serving.load import load
from tl.tasks.figures import drawable, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tl.serving.model import Model


class Run:
    """What a run left in its folder.

    Args:
        folder: The folder ``<log_dir>/<name>/version_N``.

    Attributes:
        folder: As given.

    Raises:
        ValueError: If there is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ValueError(f"{folder}: no such run folder.")

    @property
    def results(self) -> dict[str, Any]:
        """Content of ``results.json``; empty if the run was killed."""
        return results_in(self.folder)

    @property
    def metrics(self) -> dict[str, float]:
        """The last values by metric name, such as ``val/acc``."""
        found: dict[str, float] = self.results.get("metrics") or {}
        return found

    @property
    def best(self) -> Path | None:
        """The best checkpoint, otherwise the last one; ``None`` without checkpoints."""
        return best_checkpoint(self.folder)

    @property
    def history(self) -> Any:  # noqa: ANN401 - by what is installed
        """A row per epoch, a column per metric: a ``pandas.DataFrame`` if pandas is installed."""
        return as_frame(self._epochs())

    @cached_property
    def model(self) -> Model:
        """The model of the best checkpoint, ready to answer; see :func:`tl.load`."""
        return load(self.folder)

    def plot(self, *metrics: str) -> Figure:
        """Draw metrics over epochs; a notebook shows the figure.

        Args:
            *metrics: Their names; by default the losses, and the metric that chose the best
                checkpoint beside its value in training.

        Raises:
            ValueError: If the run has none of them.
        """
        table = self._epochs()
        monitor = str((self.results.get("best") or {}).get("monitor") or "val/loss")
        score = monitor.removeprefix("val/")
        usual = ("train/loss", "val/loss", f"train/{score}", monitor)
        chosen = [name for name in dict.fromkeys(metrics or usual) if name in table.columns]
        if not chosen or (metrics and len(chosen) < len(metrics)):
            missing = next((name for name in metrics if name not in chosen), "loss")
            known = ", ".join(name for name in table.columns if name != "epoch")
            raise ValueError(
                f"{self.folder}/metrics.csv has no {missing}; it has {known or 'nothing'}."
            )
        # one panel per quantity: its values in training and validation belong together
        panels: dict[str, list[str]] = {}
        for name in chosen:
            panels.setdefault(name.partition("/")[2], []).append(name)
        figure = new_figure(4.5 * len(panels), 3.2)
        for number, (what, names) in enumerate(panels.items(), 1):
            axes = figure.add_subplot(1, len(panels), number)
            for name in names:
                known_at = [
                    (epoch, value)
                    for epoch, value in zip(table["epoch"], table[name], strict=True)
                    if value is not None
                ]
                epochs, values = zip(*known_at, strict=True)
                axes.plot(epochs, values, marker="o", markersize=3, label=drawable(name))
            axes.set(xlabel="epoch", ylabel=drawable(what))
            axes.legend(fontsize="small")
        return figure

    def _epochs(self) -> Table:
        """Return the last value of each metric in each epoch."""
        rows: dict[int, dict[str, Any]] = {}
        waiting: dict[str, float] = {}  # learning rates are logged without an epoch, before it
        columns = ["epoch"]
        try:
            with (self.folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                columns += [
                    name for name in reader.fieldnames or () if name not in ("epoch", "step")
                ]
                for row in reader:
                    with suppress(ValueError):  # of a run that was killed in mid-line
                        waiting |= {k: float(v) for k, v in row.items() if k in columns[1:] and v}
                        if row.get("epoch"):
                            epoch = int(float(row["epoch"]))
                            rows.setdefault(epoch, {"epoch": epoch}).update(waiting)
                            waiting = {}
        except (OSError, ValueError, csv.Error):  # there is none, or it is none
            return Table([], columns)
        known = {name for row in rows.values() for name in row}
        first = ("epoch", *(f"{split}/" for split in ("train", "val", "test")))
        columns = [name for name in columns if name in known]
        columns.sort(key=lambda name: not name.startswith(first))  # scores, then rates and speed
        return Table((rows[epoch] for epoch in sorted(rows)), columns)

    def __repr__(self) -> str:
        """Describe it in a few lines."""
        found = self.results
        lines = [f"Run {self.folder}"]
        if isinstance(best := found.get("best"), dict) and best.get("score") is not None:
            lines.append(f"  best {best['monitor']} {best['score']:.4g}: {self.best}")
        elif self.best is not None:
            lines.append(f"  checkpoint {self.best}")
        epochs = found.get("epochs")
        length = [counted(epochs, "epoch")] if epochs else []
        length += [f"{found['seconds']:.4g} s"] if found.get("seconds") else []
        return "\n".join([*lines, *([f"  {', '.join(length)}"] if length else [])])
