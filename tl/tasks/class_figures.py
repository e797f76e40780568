"""Figures of classes: confusion matrix, accuracy of each class, scores of each label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tl.tasks.figures import NARROW, SHARP, SMALL, drawable, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FEW = 25  # classes whose matrix fits a small figure
_NAMED = 200  # more class names than this cannot be read along an axis
_LINE = 0.12  # inches from a class's name to the next
_BARS = 100  # classes with a bar
_SIDE = 400  # pixels of a confusion matrix, about
_DECADES = 3  # powers of ten that a logarithmic colour spans
_LONGEST = 24  # characters of a class's name beside a bar or a row
_MEANING = "share of the true class"
# matplotlib's viridis at equal distances
_VIRIDIS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))


def confusion_figure(counts: Tensor, names: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix, each row as fractions of its true class.

    Of more than 25 classes, colour is logarithmic from 0.1% to 100%: single mistakes among many
    classes are a few percent of a class and could not be seen otherwise. Class names are drawn
    for up to 200 classes.

    Args:
        counts: ``(C, C)``, rows true, columns predicted.
        names: Class names.
        title: Title.
    """
    if len(names) > _FEW:
        return _large_confusion(counts, names, title)
    names = [_cut(drawable(name)) for name in names]
    longest = max(map(len, names), default=0)
    side = max(NARROW, 1.2 + _LINE * len(names) + 0.06 * longest)
    figure = new_figure(side, side - 0.5, dpi=SHARP)
    axes = figure.add_subplot()
    image = axes.imshow(_shares(counts).numpy(), vmin=0, vmax=1, cmap="viridis")
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label(_MEANING, size=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    axes.set_xlabel("predicted", size=SMALL)
    axes.set_ylabel("true", size=SMALL)
    # a class may be called `$x^2$`, which must not be parsed as a formula
    axes.set_title(drawable(title), size=SMALL, parse_math=False)
    axes.set_xticks(range(len(names)), names, rotation=90, size=SMALL, parse_math=False)
    axes.set_yticks(range(len(names)), names, size=SMALL, parse_math=False)
    return figure


def _large_confusion(counts: Tensor, names: Sequence[str], title: str) -> Figure:
    """Draw a matrix in logarithmic colours, placed by hand: the layout would take seconds."""
    from matplotlib.colors import LogNorm  # noqa: PLC0415 - as in `new_figure`

    shown = [_cut(drawable(name)) for name in names] if len(names) <= _NAMED else []
    side = _LINE * len(shown) if shown else 6.0
    margin = 0.5 + 0.055 * max((len(name) for name in shown), default=4)  # below and to the left
    wide, high = margin + side + 1.2, margin + side + 0.4
    figure = new_figure(wide, high, layout=None)
    axes = figure.add_axes((margin / wide, margin / high, side / wide, side / high))
    least = 10.0**-_DECADES
    shares = _shares(counts).clamp_min(least).numpy()
    image = axes.imshow(shares, norm=LogNorm(least, 1), cmap="viridis", interpolation="nearest")
    key = (
        (margin + side + 0.2) / wide,
        (margin + 0.2 * side) / high,
        0.2 / wide,
        0.6 * side / high,
    )
    bar = figure.colorbar(image, cax=figure.add_axes(key), label=f"{_MEANING} (logarithmic)")
    bar.ax.yaxis.set_major_formatter(lambda share, _: f"{share:.4g}")
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(drawable(title), parse_math=False)
    if shown:
        axes.set_xticks(range(len(shown)), shown, rotation=90, parse_math=False, fontsize=6)
        axes.set_yticks(range(len(shown)), shown, parse_math=False, fontsize=6)
        axes.tick_params(length=1.5, pad=1.5)
    return figure


def confusion_image(counts: Tensor) -> Tensor:
    """Return a confusion matrix as a picture without text: what `confusion_figure` has inside.

    It takes about a tenth of the figure's time.

    Args:
        counts: ``(C, C)``, rows true, columns predicted.

    Returns:
        ``(3, H, H)`` float32 in [0, 1], a square of equal colour for each pair of classes.
    """
    shares = _shares(counts)
    if len(counts) > _FEW:
        shares = 1 + shares.clamp_min(10.0**-_DECADES).log10() / _DECADES
    colours = torch.tensor(_VIRIDIS, dtype=torch.float64) / 255
    place = shares.clamp_min(0) * (len(colours) - 1)
    below = place.long().clamp_max(len(colours) - 2)
    picture = torch.lerp(colours[below], colours[below + 1], (place - below)[..., None])
    scale = max(1, _SIDE // len(counts))
    large = picture.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    return large.permute(2, 0, 1).float()


def _shares(counts: Tensor) -> Tensor:
    """Return the fractions of each true class, float64 on the CPU."""
    return (counts.double() / counts.sum(1, keepdim=True).clamp_min(1)).cpu()


def accuracy_figure(counts: Tensor, names: Sequence[str], title: str) -> Figure:
    """Draw the accuracy of each class as a bar, the worst on top, and what it is taken for.

    Classes without samples are left out; of more than 100 classes, the 100 worst are drawn.

    Args:
        counts: ``(C, C)``, rows true, columns predicted.
        names: Class names.
        title: Title.
    """
    counts = counts.double().cpu()
    there = counts.sum(1)
    right = counts.diagonal() / there.clamp_min(1)
    wrong, other = counts.clone().fill_diagonal_(0).max(1)
    order = [int(row) for row in right.argsort(stable=True) if there[row] > 0]
    rows, left_out = order[:_BARS], len(order[_BARS:])
    shown = [_cut(drawable(name)) for name in names]
    more = f", the {_BARS} worst of {len(order)} classes" if left_out else ""
    high = 0.75 + _LINE * len(rows)
    figure = new_figure(NARROW, high, dpi=SHARP, layout=None)
    start = 0.14 + 0.062 * max((len(shown[row]) for row in rows), default=1)
    axes = figure.add_axes(
        (start / NARROW, 0.4 / high, 1 - (start + 0.1) / NARROW, 1 - 0.75 / high)
    )
    values = [float(right[row]) for row in rows]
    axes.barh(range(len(rows)), values, 0.8, color="#a6c8e4")
    for place, row in enumerate(rows):
        taken = f"  → {shown[other[row]]} {wrong[row] / there[row]:.0%}" if wrong[row] else ""
        said = f"{values[place]:.0%}{taken}"
        axes.text(0.01, place, said, size=SMALL - 1, va="center_baseline", parse_math=False)
    axes.set_yticks(range(len(rows)), [shown[row] for row in rows], size=SMALL, parse_math=False)
    axes.tick_params(axis="x", labelsize=SMALL)
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xlabel("accuracy → most frequent mistake", size=SMALL)
    heading = f"{drawable(title)}{more}"
    figure.text(0.5, 1 - 0.06 / high, heading, ha="center", va="top", size=SMALL, parse_math=False)
    return figure


def _cut(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def label_figure(counts: Tensor, names: Sequence[str], title: str) -> Figure:
    """Draw precision, recall and F1 of each label as bars.

    Args:
        counts: ``(3, C)``: true positives, false positives and false negatives of each label.
        names: Names of the labels.
        title: Title.
    """
    right, wrong, missed = counts.double().cpu()
    parts = {
        "precision": right / (right + wrong).clamp_min(1),
        "recall": right / (right + missed).clamp_min(1),
        "F1": 2 * right / (2 * right + wrong + missed).clamp_min(1),
    }
    places = torch.arange(len(names), dtype=torch.float64)
    figure = new_figure(7.0 if len(names) > _FEW else 3.5 + 0.4 * len(names), 4.0)
    axes = figure.add_subplot()
    for number, (name, values) in enumerate(parts.items()):
        axes.bar((places + 0.27 * (number - 1)).numpy(), values.numpy(), 0.25, label=name)
    axes.set_ylim(0, 1)
    axes.set_title(drawable(title), parse_math=False)
    axes.legend(fontsize="small")
    if len(names) <= _FEW:
        shown = [drawable(name) for name in names]
        axes.set_xticks(range(len(names)), shown, rotation=90, parse_math=False)
    return figure
