"""What dense prediction tasks have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from tl.tasks.base import Reads, Task
from tl.tasks.decoders import decoder_class
from tl.tasks.heads import map_channels

#: The default decoder.
DECODER = "tl.tasks.decoders.FeaturePyramid"
_MAPS = 3  # dimensions of maps without channels


@dataclass(frozen=True)
class MapFile:
    """What of answers for pixels is written as files, one for each sample.

    Attributes:
        maps: ``(N, H, W)`` or ``(N, C, H, W)``.
        palette: A colour for each class number ``(C, 3)`` uint8: written as ``png``; ``None``
            writes the numbers as ``npy``.
    """

    maps: Tensor
    palette: Tensor | None = None


class WrongPixelError(ValueError):
    """A target that is not one of its task.

    Its parts are for those who know which file the map comes from.

    Args:
        message: The whole message.
        place: Row and column.
        found: What is wrong there.
        expected: What targets must be.
    """

    def __init__(self, message: str, place: tuple[int, int], found: str, expected: str) -> None:
        super().__init__(message)
        self.row, self.column = place
        self.found = found
        self.expected = expected


class PixelTask(Task):
    """A prediction for each pixel; scores are over all labelled pixels of the split."""

    decoder: str
    width: int | None
    reads: ClassVar[Reads] = "maps"
    on_pixels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width is not None and self.width < 1:
            raise ValueError(f"The `width` of task {self.name!r} must be 1 or more: {self.width}.")
        decoder_class(self.decoder)  # raises early

    @property
    @abstractmethod
    def channels(self) -> int:
        """The number of channels of the head's output."""

    @property
    @abstractmethod
    def expected(self) -> str:
        """What targets must be, for error messages."""

    def head(self, num_features: int | Sequence[int]) -> nn.Module:
        """Return a decoder."""
        given = [map_channels(num_features), self.channels]
        return decoder_class(self.decoder)(*given, *([] if self.width is None else [self.width]))

    def map_file(self, answer: Tensor) -> MapFile:
        """Return what ``predict`` writes of answers as files beside its CSV."""
        return MapFile(answer)

    def _maps(self, target: object, channels: int | None) -> Tensor:
        """Return targets that are maps with so many channels; ``None``: without that dimension."""
        plain = channels in (None, 1)

        def fits(shape: tuple[int, ...]) -> bool:
            with_channels = len(shape) == _MAPS + 1 and shape[1] == (channels or 1)
            return with_channels or (plain and len(shape) == _MAPS)

        found = self.tensor_of(target, self.expected, fits)
        if channels is None:
            return found if found.ndim == _MAPS else found.squeeze(1)
        return found.unsqueeze(1) if found.ndim == _MAPS else found

    def refuse(self, wrong: Tensor, found: str) -> None:
        """Refuse targets with wrong pixels.

        Args:
            wrong: Which pixels are wrong ``(N, H, W)``, bool.
            found: What they are.

        Raises:
            ValueError: If a pixel is wrong; names the first one.
        """
        if wrong.any():
            sample, row, column = wrong.nonzero()[0].tolist()
            raise WrongPixelError(
                f"The target of task {self.name!r} is {found} for sample {sample} of the batch, "
                f"at row {row} and column {column}; expected {self.expected}.",
                (row, column),
                found,
                self.expected,
            )


class PixelSums(Metric):
    """Base of scores that are computed from sums over all pixels of all processes.

    Args:
        size: Shape of the sums.
        dtype: Type of the sums; integers add up exactly, in any order.
    """

    full_state_update = False
    sums: Tensor

    def __init__(self, size: int | tuple[int, ...], dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        # in double precision: millions of pixels
        self.add_state("sums", torch.zeros(size, dtype=dtype), dist_reduce_fx="sum")


class PixelMean(PixelSums):
    """Mean over pixels of a value, or its root.

    Args:
        value: Computes the value of each pixel ``(M,)``; by default the input itself.
        root: Return the root of the mean.
    """

    def __init__(self, value: Callable[..., Tensor] | None = None, *, root: bool = False) -> None:
        super().__init__(2)
        self._value = value
        self._root = root

    def update(self, *parts: Tensor) -> None:
        """Add the pixels of a batch, each part ``(M,)``."""
        values = parts[0] if self._value is None else self._value(*parts)
        count = values.new_tensor(values.numel(), dtype=torch.float64)
        self.sums = self.sums + torch.stack([values.double().sum(), count])

    def compute(self) -> Tensor:
        """Return the mean, a scalar; NaN without any pixel."""
        mean = self.sums[0] / self.sums[1]
        return (mean.sqrt() if self._root else mean).float()
