"""Random crops and flips of a whole batch as one gather of memory rows."""

from __future__ import annotations

import torch
from torch import Tensor

_CHUNK = 1024


class Windows:
    """Images laid out so that each line of any crop, mirrored or not, is one run of memory.

    Reflection continues a line of `W` pixels with a period of ``2 (W - 1)``, and what continues it
    reads backwards like the line itself: padding and mirror image are windows of one line of
    ``2 W - 1 + 2 padding`` pixels. Above and below, reflection is another line's index. A batch is
    then a single ``index_select`` over an overlapping view, without a loop or a second pass.

    Args:
        pixels: ``(N, H, W, C)``, channels-last; copied, 2.2 times as large for 32x32 and the
            default padding.
        padding: Pixels of reflection at each side, smaller than the image.
        flip: Hold the mirror images too.
    """

    def __init__(self, pixels: Tensor, padding: int, *, flip: bool) -> None:
        self.count, self.height, self.width, self.channels = pixels.shape
        if padding >= min(self.height, self.width):
            raise ValueError(
                "`augment.padding` must be smaller than the image, got "
                f"{padding} for {self.height}x{self.width}."
            )
        self.padding = padding
        self.length = line_length(self.width, padding, flip=flip)
        columns = torch.arange(self.length, device=pixels.device) - padding
        columns = reflected(columns, self.width)
        lines = pixels.new_empty(self.count, self.height, self.length, self.channels)
        for first in range(0, self.count, _CHUNK):  # or the copy would need its size once more
            part = slice(first, first + _CHUNK)
            torch.index_select(pixels[part], 2, columns, out=lines[part])
        starts = max(0, self.count * self.height * self.length - self.width + 1)
        row = self.width * self.channels
        self._windows = lines.view(-1).as_strided((starts, row), (self.channels, 1))
        self._lines = torch.arange(self.height, device=pixels.device) - padding

    def cut(self, rows: Tensor, top: Tensor, left: Tensor, mirror: Tensor) -> Tensor:
        """Cut a window out of each image.

        Args:
            rows: Images ``(B,)``.
            top: First line of the padded image ``(B,)``, 0 to ``2 padding``; `padding` is the
                image's own.
            left: First column, likewise.
            mirror: 1 for the window of the mirror image ``(B,)``, else 0.

        Returns:
            ``(B, H, W, C)``.
        """
        lines = reflected(self._lines + top[:, None], self.height)
        start = (rows[:, None] * self.height + lines) * self.length
        start += (left + mirror * (self.width - 1))[:, None]
        found = self._windows.index_select(0, start.view(-1))
        return found.view(len(rows), self.height, self.width, self.channels)

    def plain(self, rows: Tensor) -> Tensor:
        """Return images ``(B, H, W, C)`` as they are."""
        middle = torch.full_like(rows, self.padding)
        return self.cut(rows, middle, middle, torch.zeros_like(rows))


def line_length(width: int, padding: int, *, flip: bool) -> int:
    """Length in pixels of a line that holds all windows of a line of `width` pixels."""
    return width + 2 * padding + (width - 1 if flip else 0)


def reflected(index: Tensor, size: int) -> Tensor:
    """Fold indices of an endlessly reflected line of `size` pixels into 0 to ``size - 1``."""
    last = size - 1
    return last - (index.remainder(max(2 * last, 1)) - last).abs()
