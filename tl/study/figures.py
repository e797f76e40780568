"""Figures of a study: scores over an axis, Delta_m, the trade-off of two tasks, seeds."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from tl.report.intervals import Interval, mean_interval
from tl.study.analysis import Overall, Ranking, Single
from tl.study.cells import DELTA, Cell, metrics_of
from tl.study.findings import StudyReport
from tl.study.sections import is_number
from tl.study.wording import name_of, scaled, short, unit

_DPI = 120
_ASIDE = 0.05  # inches between the lines of a plot
_WIDEST = 0.5  # inches between the first and the last


def figures_of(report: StudyReport) -> dict[str, Figure]:
    """Draw what the report's cells allow.

    Returns:
        Figures by name; empty before a run is done.
    """
    cells = [cell for cell in report.cells if cell.runs]
    if not cells:
        return {}
    metrics = metrics_of(report.study)
    found = {"seeds": seeds_figure(cells, metrics[0])}
    numeric = [
        axis
        for axis in report.study.report.rows
        if len({repr(c.row[axis]) for c in cells}) > 1
        and all(is_number(cell.row[axis]) for cell in cells)
    ]
    if numeric:
        compared = report.study.report.against
        found["scores"] = scores_figure(cells, metrics[0], numeric[0], compared)
    if DELTA in metrics and any(cell.values(DELTA) for cell in cells):
        found["delta_m"] = delta_m_figure(cells)
    tasks = [metric for metric in metrics if metric.count("/") == 2]  # noqa: PLR2004 - split/task/score
    if len(tasks) == 2:  # noqa: PLR2004 - a plane
        found["trade_off"] = trade_off_figure(cells, tasks[0], tasks[1], report.single)
    if profiled := report.overall.get(metrics[0]):
        found["profile"] = profile_figure(profiled, metrics[0])
    if ranking := report.rankings.get(metrics[0]):
        found["ranks"] = ranks_figure(ranking)
    return found


def write_figures(report: StudyReport, out: Path) -> list[Path]:
    """Write the figures as PNG, and into ``tensorboard`` for a dashboard.

    Returns:
        The PNG files.
    """
    paths: list[Path] = []
    figures = figures_of(report)
    if not figures:
        return paths
    writer = EventFileWriter(str(out / "tensorboard"))
    try:
        for name, figure in figures.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=_DPI)
            paths.append(out / f"{name}.png")
            paths[-1].write_bytes(buffer.getvalue())
            width, height = (round(inches * _DPI) for inches in figure.get_size_inches())
            image = Summary.Image(
                height=height, width=width, colorspace=4, encoded_image_string=buffer.getvalue()
            )
            value = Summary.Value(tag=f"study/{name}", image=image)
            event = Event(wall_time=time.time(), step=0, summary=Summary(value=[value]))
            writer.add_event(event)
    finally:
        writer.close()
    return paths


def scores_figure(
    cells: Sequence[Cell], metric: str, axis: str, compared: Collection[str] = ()
) -> Figure:
    """Draw a metric over a numeric axis, with intervals.

    Args:
        cells: The cells.
        metric: The metric.
        axis: The numeric axis of the rows.
        compared: Axes of the rows whose values are lines; each value of the others has a plot of
            its own. By default all are lines.
    """
    panels: dict[str, dict[str, list[tuple[float, Cell]]]] = {}
    for cell in cells:
        rest = {key: value for key, value in cell.row.items() if key != axis}
        line = {key: value for key, value in rest.items() if key in compared} or rest
        panel = name_of({key: value for key, value in rest.items() if key not in line})
        lines = panels.setdefault(panel, {})
        lines.setdefault(name_of(line) or metric, []).append((float(cell.row[axis]), cell))
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    colours = colormaps["tab10" if len(names) <= 10 else "tab20"]  # noqa: PLR2004 - as many
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(4.5 * columns + 2.5, 4 * rows), layout="constrained")
    plots = figure.subplots(rows, columns, squeeze=False).flatten()
    for empty in plots[len(panels) :]:
        empty.remove()
    handles: dict[str, Any] = {}
    for plot, (panel, lines) in zip(plots, panels.items(), strict=False):
        for name, points in lines.items():
            points.sort(key=lambda each: each[0])
            handles[name] = plot.errorbar(
                [x for x, _ in points],
                [_mean(cell, metric) for _, cell in points],
                [_half(cell, metric) for _, cell in points],
                label=name,
                color=colours(names.index(name) % colours.N),
                marker="o",
                capsize=3,
            )
            place = names.index(name) - (len(names) - 1) / 2  # from the middle
            aside = place * min(_ASIDE, _WIDEST / len(names))
            shift = ScaledTranslation(aside, 0, figure.dpi_scale_trans)
            for artist in handles[name].get_children():
                artist.set_transform(artist.get_transform() + shift)
        _mark_values(plot, sorted({x for points in lines.values() for x, _ in points}))
        plot.margins(x=0.1)
        plot.set_title(panel)
        plot.set_xlabel(short(axis))
        plot.set_ylabel(f"{metric}{unit(metric)}")
    figure.legend(handles.values(), handles, loc="outside right upper")
    return figure


def _mark_values(plot: Axes, xs: Sequence[float]) -> None:
    if min(xs) > 0 and max(xs) / min(xs) > 4:  # noqa: PLR2004 - wide enough for logarithms
        plot.set_xscale("log")
    if len(xs) <= 8:  # noqa: PLR2004 - there is room for each
        plot.set_xticks(xs, [f"{x:g}" for x in xs])
        plot.minorticks_off()


def delta_m_figure(cells: Sequence[Cell]) -> Figure:
    """Draw Delta_m as bars with intervals."""
    figure, plot = _new()
    names = [name_of(cell.row) for cell in cells]
    colours = ["tab:red" if _mean(cell, DELTA) < 0 else "tab:blue" for cell in cells]
    plot.barh(
        names,
        [_mean(cell, DELTA) for cell in cells],
        xerr=[_half(cell, DELTA) for cell in cells],
        color=colours,
        capsize=3,
    )
    plot.axvline(0, color="black", linewidth=1)
    plot.invert_yaxis()
    plot.set_xlabel("Delta_m against a network per task, %")
    return figure


def trade_off_figure(
    cells: Sequence[Cell], first: str, second: str, single: Mapping[str, Single]
) -> Figure:
    """Draw two tasks' scores against each other, a point with intervals for each row.

    Args:
        cells: The rows.
        first: Metric of the first task.
        second: Metric of the second.
        single: Scores of the networks of one task each by metric, which are a point too.
    """
    figure, plot = _new()
    both = (first, second)
    points: list[tuple[str, str | None, list[Interval | None]]] = [
        (name_of(cell.row), None, [cell.interval(metric) for metric in both]) for cell in cells
    ]
    own = [[*single[metric].scores.values()] for metric in both if metric in single]
    if len(own) == len(both) and all(own):
        points.append(("a network each", "black", [mean_interval(values) for values in own]))
    for name, color, intervals in points:
        (x, x_half), (y, y_half) = map(_scaled, intervals, both)
        plot.errorbar(
            [x], [y], xerr=[x_half], yerr=[y_half], marker="o", capsize=3, label=name, color=color
        )
    plot.set_xlabel(f"{first}{unit(first)}")
    plot.set_ylabel(f"{second}{unit(second)}")
    plot.legend()
    return figure


def seeds_figure(cells: Sequence[Cell], metric: str) -> Figure:
    """Draw every seed's score, and each row's mean."""
    figure, plot = _new(max(3.0, 0.35 * len(cells) + 1.5))
    names = [name_of(cell.row) for cell in cells]
    for place, cell in enumerate(cells):
        values = [scaled(value, metric) for value in cell.values(metric).values()]
        plot.scatter(values, [place] * len(values), alpha=0.6)
        plot.scatter([_mean(cell, metric)], [place], marker="|", s=300, color="black")
    plot.set_yticks(range(len(names)), names)
    plot.invert_yaxis()
    plot.set_xlabel(f"{metric}{unit(metric)}, each seed and the mean")
    return figure


def profile_figure(overall: Sequence[Overall], metric: str) -> Figure:
    """Draw the share of runs above each score, a line per method (Dolan & More, 2002)."""
    figure, plot = _new()
    for each in overall:
        scores = [scaled(threshold, metric) for threshold, _ in each.profile]
        plot.step(scores, [share for _, share in each.profile], where="post", label=each.value)
    plot.set_xlabel(f"{metric}{unit(metric)}")
    plot.set_ylabel("share of runs above it")
    plot.legend()
    return figure


def ranks_figure(ranking: Ranking) -> Figure:
    """Draw mean ranks with bars over methods that cannot be told apart (Demsar, 2006)."""
    count, ranks = len(ranking.methods), ranking.ranks
    figure, plot = _new(0.4 * (count + len(ranking.cliques)) + 1.5)
    for place, i in enumerate(ranking.order):
        plot.plot([ranks.mean_ranks[i]], [place], "o", color="black")
        plot.annotate(
            f"{name_of(ranking.methods[i])}  {ranks.mean_ranks[i]:.2f}",
            (ranks.mean_ranks[i], place),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
        )
    for row, clique in enumerate(ranking.cliques):
        ends = [ranks.mean_ranks[clique[0]], ranks.mean_ranks[clique[-1]]]
        plot.plot(ends, [count + 0.6 * row] * 2, linewidth=4, color="tab:red")
    plot.set_yticks([])
    plot.set_xlim(0.8, count + 1)
    plot.invert_yaxis()
    plot.set_xlabel(
        f"mean rank over {ranks.data_sets} data sets, 1 is best; red: no difference above the "
        f"critical one of {ranks.critical_difference:.2f}"
    )
    return figure


def _new(height: float = 4.0) -> tuple[Figure, Any]:
    figure = Figure(figsize=(7, height), layout="constrained")
    return figure, figure.subplots()


def _mean(cell: Cell, metric: str) -> float:
    return _scaled(cell.interval(metric), metric)[0]


def _half(cell: Cell, metric: str) -> float:
    return _scaled(cell.interval(metric), metric)[1]


def _scaled(interval: Interval | None, metric: str) -> tuple[float, float]:
    """Return mean and half-width as they are drawn; no width where it is unknown."""
    if interval is None:
        return math.nan, 0.0
    half = interval.half_width if math.isfinite(interval.half_width) else 0.0
    return scaled(interval.mean, metric), scaled(half, metric)
