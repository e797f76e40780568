"""Figures of a task's predictions: confusion matrix, label scores, scatter plot, examples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tl.batch import Inputs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELLED = 25  # more class names than this cannot be read along an axis
_IMAGES, _SIGNALS = 4, 3  # dimensions of a batch of them
_COLOURS = 3
_SIDE = 400  # pixels of a confusion matrix, about
# matplotlib's viridis at equal distances
_VIRIDIS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))


def drawable(name: str) -> str:
    """Escape what cannot be drawn: line breaks, control characters, halves of surrogate pairs."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def drawable_part(inputs: Inputs) -> Tensor | None:
    """Return what can be drawn of inputs: images ``(N, C, H, W)``, or signals ``(N, C, L)``.

    In a dict, that is the first such tensor; ``None`` if there is none.
    """
    parts = inputs.values() if isinstance(inputs, Mapping) else [inputs]
    for part in parts:
        if part.ndim == _IMAGES or (part.ndim == _SIGNALS and part.is_floating_point()):
            return part
    return None


def confusion_figure(counts: Tensor, names: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix, each row as fractions of its true class.

    Args:
        counts: ``(C, C)``, rows true, columns predicted.
        names: Class names.
        title: Title.
    """
    names = [drawable(name) for name in names]
    shares = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    side = 7.0 if len(names) > _LABELLED else 3.5 + 0.3 * len(names)
    figure = new_figure(side + 1, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares.cpu().numpy(), vmin=0, vmax=1, cmap="viridis")
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(drawable(title), parse_math=False)
    if len(names) <= _LABELLED:
        # a class may be called `$x^2`, which must not be parsed as a formula
        axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
        axes.set_yticks(range(len(names)), names, parse_math=False)
    return figure


def confusion_image(counts: Tensor) -> Tensor:
    """Return a confusion matrix as a picture without text: what `confusion_figure` has inside.

    It takes about a tenth of the figure's time.

    Args:
        counts: ``(C, C)``, rows true, columns predicted.

    Returns:
        ``(3, H, H)`` float32 in [0, 1], a square of equal colour for each pair of classes.
    """
    shares = (counts.double() / counts.sum(1, keepdim=True).clamp_min(1)).cpu()
    colours = torch.tensor(_VIRIDIS, dtype=torch.float64) / 255
    place = shares * (len(colours) - 1)
    below = place.long().clamp_max(len(colours) - 2)
    picture = torch.lerp(colours[below], colours[below + 1], (place - below)[..., None])
    scale = max(1, _SIDE // len(counts))
    large = picture.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
    return large.permute(2, 0, 1).float()


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
    figure = new_figure(7.0 if len(names) > _LABELLED else 3.5 + 0.4 * len(names), 4.0)
    axes = figure.add_subplot()
    for number, (name, values) in enumerate(parts.items()):
        axes.bar((places + 0.27 * (number - 1)).numpy(), values.numpy(), 0.25, label=name)
    axes.set_ylim(0, 1)
    axes.set_title(drawable(title), parse_math=False)
    axes.legend(fontsize="small")
    if len(names) <= _LABELLED:
        shown = [drawable(name) for name in names]
        axes.set_xticks(range(len(names)), shown, rotation=90, parse_math=False)
    return figure


def scatter_figure(predicted: Tensor, true: Tensor, title: str) -> Figure:
    """Draw predictions against targets, with the line of equality.

    Args:
        predicted: ``(N, K)``: K numbers per sample.
        true: ``(N, K)``, NaN if missing.
        title: Title.
    """
    figure = new_figure(5.0, 5.0)
    axes = figure.add_subplot()
    for number, (x, y) in enumerate(zip(true.T, predicted.T, strict=True)):
        axes.scatter(x.numpy(), y.numpy(), s=6, alpha=0.5, label=f"output {number}")
    known = true[~true.isnan()]
    ends = [float(known.min()), float(known.max())] if len(known) else [0.0, 1.0]
    axes.plot(ends, ends, color="grey", linewidth=1)
    axes.set(xlabel="true", ylabel="predicted")
    axes.set_title(drawable(title), parse_math=False)
    if true.shape[1] > 1:
        axes.legend(fontsize="small")
    return figure


def display_images(images: Tensor, statistics: tuple[Tensor, Tensor] | None) -> Tensor:
    """Turn normalised images back into colours for display.

    Args:
        images: ``(N, C, H, W)``; unless there are 3 channels, their mean is shown in grey.
        statistics: Mean and standard deviation per channel ``(C,)`` in pixel values 0-255 that the
            images were normalised by; without them each image is stretched to its own range.

    Returns:
        ``(N, 3, H, W)`` float32 on the CPU in [0, 1].
    """
    images = images.detach().float().cpu()
    if statistics is not None:
        mean, std = (value.float().cpu()[:, None, None] for value in statistics)
        shown = ((images * std + mean) / 255).clamp(0, 1)
    else:
        low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
        shown = (images - low) / (high - low).clamp_min(1e-6)
    return shown if shown.shape[1] == _COLOURS else shown.mean(1, keepdim=True).repeat(1, 3, 1, 1)


def examples_figure(
    samples: Tensor,
    captions: Sequence[str],
    statistics: tuple[Tensor, Tensor] | None,
    title: str,
) -> Figure:
    """Draw samples, each with a caption.

    Args:
        samples: Images ``(N, C, H, W)``, or signals ``(N, C, L)``, which are drawn as lines.
        captions: Text above each.
        statistics: As for :func:`display_images`.
        title: Title.
    """
    columns = min(4, len(samples))
    rows = math.ceil(len(samples) / columns)
    figure = new_figure(2.4 * columns, 2.7 * rows + 0.4)
    figure.suptitle(drawable(title), parse_math=False)
    images = samples.ndim == _IMAGES
    shown = display_images(samples, statistics) if images else samples.detach().float().cpu()
    for number, caption in enumerate(captions):
        axes = figure.add_subplot(rows, columns, number + 1)
        if images:
            axes.imshow(shown[number].permute(1, 2, 0).numpy(), interpolation="nearest")
        else:
            axes.plot(shown[number].T.numpy(), linewidth=1)
        axes.set_title(caption, fontsize="small", parse_math=False)
        axes.axis("off")
    return figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - a task needs it only to be drawn

    figure = Figure(figsize=(width, height), layout="constrained")
    # a notebook shows it, also where pyplot is not used
    figure._repr_png_ = partial(png, figure)  # type: ignore[attr-defined]  # IPython's protocol
    return figure


def png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    content = BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
