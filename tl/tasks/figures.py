"""Figures of a task's predictions: scatter plot and examples; and what all figures share."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from tl.batch import Inputs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_IMAGES, _SIGNALS = 4, 3  # dimensions of a batch of them
_COLOURS = 3
_LINE = 0.115  # inches from a line of text to the next
_COLUMN = 0.9  # inches of a sample
_CHARACTERS = 16  # of a line above a sample
# a word, with what follows it; an arrow stays with its word
_WORD = re.compile(r"(?:→ )?[^\s_-]+[\s_-]*|[\s_-]+")
#: Width in inches, and size of the text in points, of figures that stay readable in TensorBoard,
#: which shows an image about 350 pixels wide.
NARROW, SMALL = 3.6, 7.0
#: Pixels per inch of such figures, so that they are sharp as files.
SHARP = 200


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
    # placed by hand: matplotlib's layout of so many parts takes longer than everything else
    columns = min(4, len(samples))
    rows = math.ceil(len(samples) / columns)
    texts = ["\n".join(_wrapped(caption)) for caption in captions]
    above = _LINE * max((text.count("\n") + 1 for text in texts), default=1) + 0.05
    wide, high = NARROW, 0.3 + rows * (_COLUMN + above)
    figure = new_figure(wide, high, dpi=SHARP, layout=None)
    figure.text(
        0.5, 1 - 0.06 / high, drawable(title), ha="center", va="top", size=SMALL, parse_math=False
    )
    images = samples.ndim == _IMAGES
    shown = display_images(samples, statistics) if images else samples.detach().float().cpu()
    left = (wide - columns * _COLUMN) / 2
    if images:  # axes of its own for each image take ten times as long
        sheet = figure.add_axes((0, 0, 1, 1))
        sheet.axis("off")
    for number, text in enumerate(texts):
        row, column = divmod(number, columns)
        bottom = high - 0.26 - (row + 1) * (_COLUMN + above)
        width, height = _COLUMN - 0.08, _COLUMN - 0.04
        start = left + column * _COLUMN + 0.04
        if images:
            image = shown[number].permute(1, 2, 0).numpy()
            scale = min(width / image.shape[1], height / image.shape[0])
            side, up = image.shape[1] * scale, image.shape[0] * scale
            start, bottom = start + (width - side) / 2, bottom + (height - up) / 2
            extent = (start, start + side, bottom, bottom + up)
            sheet.imshow(image, interpolation="nearest", extent=extent, aspect="auto")
            middle, top = start + side / 2, bottom + up
        else:
            place = (start / wide, bottom / high, width / wide, height / high)
            axes = figure.add_axes(place)
            axes.plot(shown[number].T.numpy(), linewidth=1)
            axes.axis("off")
            middle, top = start + width / 2, bottom + height
        figure.text(
            middle / wide,
            (top + 2 / 72) / high,
            text,
            ha="center",
            va="bottom",
            size=SMALL,
            linespacing=1.1,
            parse_math=False,
        )
    if images:
        sheet.set(xlim=(0, wide), ylim=(0, high))
    return figure


def _wrapped(caption: str) -> Iterator[str]:
    """Break a caption between words into lines that fit above a sample; shorten longer words."""
    for whole in caption.split("\n"):
        line = ""
        for word in _WORD.findall(whole):
            if line and _width(line + word.rstrip()) > _CHARACTERS:
                yield line.rstrip()
                line = ""
            line += word if _width(word.rstrip()) <= _CHARACTERS else _shortened(word)
        yield line.rstrip()


def _shortened(word: str) -> str:
    while _width(f"{word}…") > _CHARACTERS:
        word = word[:-1]
    return f"{word}… "


def _width(text: str) -> float:
    """Return the width of a text in characters of usual width."""
    return len(text) + 0.8 * sum(letter in "mwMW…" for letter in text)


def new_figure(
    width: float,
    height: float,
    dpi: float = 100,
    layout: Literal["constrained"] | None = "constrained",
) -> Figure:
    """Return an empty figure of so many inches.

    Args:
        width: Inches.
        height: Inches.
        dpi: Pixels per inch.
        layout: Matplotlib's layout; ``None`` where parts are placed by hand.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - a task needs it only to be drawn

    figure = Figure(figsize=(width, height), dpi=dpi, layout=layout)
    # a notebook shows it, also where pyplot is not used
    figure._repr_png_ = partial(png, figure)  # type: ignore[attr-defined]  # IPython's protocol
    return figure


def png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    content = BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
