"""Plots of a run as files in its folder, from its ``metrics.csv``: curves and learning rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tl.report.finished_run import Curve, read_curves

_MOST = 8  # curves in a legend that can be read


def write_plots(run: Path) -> list[Path]:
    """Write ``curves.png`` and ``learning_rates.png``; what was not logged is left out.

    Returns:
        The files that were written.
    """
    curves = read_curves(run / "metrics.csv")
    drawn = {"curves.png": curves_figure(curves), "learning_rates.png": rates_figure(curves)}
    paths = []
    for name, figure in drawn.items():
        if figure is not None:
            figure.savefig(run / name, dpi=120)
            paths.append(run / name)
    return paths


def curves_figure(curves: Mapping[str, Curve]) -> Figure | None:
    """Draw losses and each score in a chart of its own, training dashed beside validation.

    Returns:
        ``None`` without any curve of training or validation.
    """
    charts: dict[str, list[str]] = {}
    for name in curves:
        split, *_, what = name.partition("/dataloader_idx_")[0].split("/")
        if split in ("train", "val"):
            charts.setdefault(what, []).append(name)
    # scores of validation, and losses; not the likes of `train/skipped_steps`
    wanted = {w: n for w, n in charts.items() if any(name.startswith("val/") for name in n)}
    if not wanted:
        return None
    figure = Figure(figsize=(5.5 * len(wanted), 4), layout="constrained")
    tasks = sorted({_task(name) for names in wanted.values() for name in names})  # "": the mean
    for number, (what, names) in enumerate(sorted(wanted.items(), key=lambda w: w[0] != "loss")):
        axes = figure.add_subplot(1, len(wanted), number + 1)
        for name in names:
            colour = f"C{tasks.index(_task(name)) % 10}"
            style = "--" if name.startswith("train/") else "-"
            axes.plot(*curves[name], style, color=colour, label=name, marker=_dot(curves[name]))
        axes.set(xlabel="step", ylabel=what)
        axes.legend(fontsize="small" if len(names) <= _MOST else "xx-small")
    return figure


def rates_figure(curves: Mapping[str, Curve]) -> Figure | None:
    """Draw the learning rates by group; ``None`` without any."""
    names: Sequence[str] = [name for name in curves if name.startswith(("lr/", "lr-"))]
    if not names:
        return None
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    alike: dict[str, list[str]] = {}  # lines that would hide each other
    for name in names:
        alike.setdefault(repr(curves[name]), []).append(name)
    for group in alike.values():
        more = f" and {len(group) - 1} more" if len(group) > 1 else ""
        curve = curves[group[0]]
        axes.plot(*curve, label=f"{group[0]}{more}", marker=_dot(curve))
    axes.set(xlabel="step", ylabel="learning rate")
    axes.legend(fontsize="small" if len(names) <= _MOST else "xx-small")
    return figure


def _task(name: str) -> str:
    """Return the task of a metric; empty for the mean and for the only task."""
    parts = name.partition("/dataloader_idx_")[0].split("/")
    return "/".join(parts[1:-1])


def _dot(curve: Curve) -> str | None:
    """Return a marker for a single value, of which a line shows nothing."""
    return "o" if len(curve[0]) == 1 else None
