"""Figures of answers for pixels: maps side by side, a share for each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tl.tasks.figures import SHARP, SMALL, display_images, drawable, new_figure
from tl.tasks.palette import class_colours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELLED = 25  # more class names than this cannot be read
_WIDE = 4.3  # inches
_COLOUR = 4  # dimensions of a batch of coloured maps
_HEADS = ("image", "truth", "answer", "error")


def maps_figure(
    parts: tuple[Tensor, Tensor, Tensor, Tensor],
    statistics: tuple[Tensor, Tensor] | None,
    title: str,
    *,
    error: tuple[str, float | None],
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw image, truth, answer and error side by side, a row for each sample.

    Args:
        parts: Images ``(N, C, H, W)``; truth and answer, as colours ``(N, H, W, 3)`` in [0, 1] or
            numbers ``(N, H, W)``, which share their colours; errors ``(N, H, W)``. NaN is left
            white.
        statistics: As for :func:`tl.tasks.figures.display_images`.
        title: Title.
        error: What errors are, and the one with the last colour (``None``: the largest).
        names: Names of the classes, where these are drawn, for a key of their colours.
    """
    images, truth, answer, errors = (part.detach().cpu() for part in parts)
    rows = len(images)
    high, wide = images.shape[-2:]
    keyed = list(names) if names is not None and len(names) <= _LABELLED else []
    below = 0.15 * math.ceil(len(keyed) / _columns(keyed))
    figure = new_figure(_WIDE, 0.95 * rows * max(0.5, high / wide) + 0.6 + below, dpi=SHARP)
    figure.suptitle(drawable(title), fontsize=SMALL, parse_math=False)
    axes = figure.subplots(rows, len(_HEADS), squeeze=False)
    low, top = _ends(torch.cat([truth.flatten(), answer.flatten()]))
    shown = display_images(images, statistics).movedim(1, -1)
    what, most = error
    scale = {"vmin": 0.0, "vmax": _ends(errors.flatten())[1] if most is None else most}
    drawn: dict[int, Any] = {}
    for row in range(rows):
        for column, part in enumerate((shown, truth, answer, errors)):
            numbers = part.ndim < _COLOUR
            ends = scale if column == len(_HEADS) - 1 else {"vmin": low, "vmax": top}
            colours = {"cmap": "magma" if ends is scale else "viridis", **ends} if numbers else {}
            place = axes[row, column]
            drawn[column] = place.imshow(part[row].numpy(), interpolation="nearest", **colours)
            place.set_xticks([])
            place.set_yticks([])
            if not row:
                place.set_title(_HEADS[column], fontsize=SMALL, pad=2)
    if truth.ndim < _COLOUR:
        key = figure.colorbar(drawn[2], ax=list(axes[:, 1:3].flat), shrink=0.8, aspect=30)
        key.ax.tick_params(labelsize=SMALL - 1)
    key = figure.colorbar(drawn[3], ax=list(axes[:, 3]), shrink=0.8, aspect=30)
    key.ax.tick_params(labelsize=SMALL - 1)
    key.set_label(what, fontsize=SMALL)
    if keyed:
        _legend(figure, keyed)
    return figure


def shares_figure(shares: Tensor, names: Sequence[str], what: str, title: str) -> Figure:
    """Draw a share for each class as bars, and their mean.

    Args:
        shares: ``(C,)``, NaN for a class that does not occur.
        names: Class names.
        what: What they are.
        title: Title.
    """
    known = ~shares.isnan()
    figure = new_figure(7.0 if len(names) > _LABELLED else 3.5 + 0.4 * len(names), 4.0)
    axes = figure.add_subplot()
    axes.bar(range(len(names)), shares.nan_to_num(0.0).numpy(), 0.6)
    mean = float(shares[known].mean())
    axes.axhline(mean, color="grey", linewidth=1, label=f"mean {mean:.3f}")
    axes.set(ylim=(0, 1), ylabel=what)
    axes.set_title(drawable(title), parse_math=False)
    axes.legend(fontsize="small")
    if len(names) <= _LABELLED:
        labels = [
            drawable(name) if there else f"{drawable(name)} (none)"
            for name, there in zip(names, known.tolist(), strict=True)
        ]
        axes.set_xticks(range(len(names)), labels, rotation=90, parse_math=False)
    return figure


def _ends(values: Tensor) -> tuple[float, float]:
    known = values[values.isfinite()]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)


def _columns(names: Sequence[str]) -> int:
    """Return how many boxes with the longest name fit side by side."""
    return max(1, int(_WIDE / (0.4 + 0.06 * max((len(drawable(n)) for n in names), default=0))))


def _legend(figure: Figure, names: Sequence[str]) -> None:
    from matplotlib.patches import Patch  # noqa: PLC0415 - a task needs it only to be drawn

    colours = class_colours(torch.arange(len(names)), len(names)).tolist()
    patches = [
        Patch(facecolor=colour, edgecolor="grey", label=drawable(name).replace("$", r"\$"))
        for colour, name in zip(colours, names, strict=True)
    ]
    figure.legend(
        handles=patches,
        loc="outside lower center",
        ncols=_columns(names),
        fontsize=SMALL,
        handlelength=1,
        columnspacing=1,
    )
