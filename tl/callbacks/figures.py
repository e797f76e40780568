"""Pictures of a classifier: confusion matrix, most confident mistakes, grids of images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import make_grid

_LABELLED = 25  # more class names than this cannot be read along an axis


def drawable(name: str) -> str:
    """Escape what cannot be drawn: line breaks, control characters, halves of surrogate pairs."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def confusion_figure(counts: Tensor, names: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix, each row as shares of its true class.

    Args:
        counts: ``(C, C)``, rows true, columns predicted.
        names: Class names.
        title: Title.
    """
    names, title = [drawable(name) for name in names], drawable(title)
    shares = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    side = 7.0 if len(names) > _LABELLED else 3.5 + 0.3 * len(names)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares.cpu().numpy(), vmin=0, vmax=1, cmap="viridis")
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_title(title, parse_math=False)
    if len(names) <= _LABELLED:
        # a class may be called `$x^2`, which is not a formula
        axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
        axes.set_yticks(range(len(names)), names, parse_math=False)
    return figure


def display_images(images: Tensor, statistics: tuple[Tensor, Tensor] | None) -> Tensor:
    """Turn normalised images back into colours to look at.

    Args:
        images: ``(N, 3, H, W)``.
        statistics: Mean and standard deviation per channel ``(3,)`` in pixel values 0-255, as
            they were normalised by; without them each image is stretched to its own range.

    Returns:
        ``(N, 3, H, W)`` float32 on the CPU in [0, 1].
    """
    images = images.detach().float().cpu()
    if statistics is not None:
        mean, std = (value.float().cpu()[:, None, None] for value in statistics)
        return ((images * std + mean) / 255).clamp(0, 1)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp_min(1e-6)


def image_grid(images: Tensor, columns: int = 8) -> Tensor:
    """Lay images ``(N, 3, H, W)`` in [0, 1] out as one picture; enlarge small ones."""
    scale = max(1, 64 // images.shape[-1])
    large = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    grid: Tensor = make_grid(large, nrow=columns, padding=2, pad_value=1.0)
    return grid


@dataclass
class Mistakes:
    """The wrong predictions that were made with the most confidence.

    Args:
        most: How many to keep.
    """

    most: int
    kept: list[tuple[float, int, int, Tensor]] = field(default_factory=list)

    def add(self, images: Tensor, logits: Tensor, target: Tensor) -> None:
        """Look through a batch.

        Args:
            images: ``(N, 3, H, W)``, normalised.
            logits: ``(N, C)``.
            target: ``(N,)``; negative where there is no label.
        """
        confidence, predicted = logits.float().softmax(1).max(1)
        wrong = (predicted != target) & (target >= 0)
        confidence = torch.where(wrong, confidence, -1.0)
        values, rows = confidence.topk(min(self.most, len(confidence)))
        for value, row in zip(values.tolist(), rows.tolist(), strict=True):
            if value >= 0:
                found = (value, int(target[row]), int(predicted[row]), images[row].cpu())
                self.kept.append(found)
        self.kept = sorted(self.kept, key=lambda kept: -kept[0])[: self.most]

    def figure(
        self, names: Sequence[str], statistics: tuple[Tensor, Tensor] | None, title: str
    ) -> Figure | None:
        """Draw them with true class, predicted class and confidence; ``None`` if there are none."""
        if not self.kept:
            return None
        columns = min(4, len(self.kept))
        rows = math.ceil(len(self.kept) / columns)
        figure = Figure(figsize=(2.4 * columns, 2.7 * rows + 0.4), layout="constrained")
        figure.suptitle(drawable(title), parse_math=False)
        pictures = display_images(torch.stack([kept[3] for kept in self.kept]), statistics)
        for number, (confidence, true, predicted, _) in enumerate(self.kept):
            axes = figure.add_subplot(rows, columns, number + 1)
            axes.imshow(pictures[number].permute(1, 2, 0).numpy(), interpolation="nearest")
            axes.set_title(
                f"{drawable(names[true])}\n-> {drawable(names[predicted])} ({confidence:.0%})",
                fontsize="small",
                parse_math=False,
            )
            axes.axis("off")
        return figure
