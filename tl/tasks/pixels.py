"""What tasks with an answer for each pixel have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from tl.tasks.base import Reads, Task
from tl.tasks.decoders import decoder_class
from tl.tasks.heads import map_channels

#: The decoder unless another one is named.
DECODER = "tl.tasks.decoders.FeaturePyramid"
_MAPS = 3  # dimensions of maps without channels


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
    """An answer for each pixel; scores are over all pixels with a target of the whole split."""

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
        """How many channels the head gives."""

    @property
    @abstractmethod
    def expected(self) -> str:
        """What targets must be, for messages."""

    def head(self, num_features: int | Sequence[int]) -> nn.Module:
        """Return a decoder."""
        given = [map_channels(num_features), self.channels]
        return decoder_class(self.decoder)(*given, *([] if self.width is None else [self.width]))

    def _maps(self, target: object, channels: int | None) -> Tensor:
        """Return targets that are maps with so many channels; ``None``: without the dimension."""
        if not isinstance(target, Tensor):
            raise ValueError(  # noqa: TRY004 - what the data hold
                f"The targets of task {self.name!r} are a {type(target).__name__}; expected "
                f"{self.expected}, as a tensor."
            )
        shape = tuple(target.shape)
        if channels in (None, 1) and target.ndim in (_MAPS, _MAPS + 1):
            if target.ndim == _MAPS:
                target = target.unsqueeze(1)
            fits = target.shape[1] == 1
            target = target if channels else target.squeeze(1)
        else:
            fits = target.ndim == _MAPS + 1 and target.shape[1] == channels
        if not fits or target.is_complex():
            kind = "complex numbers " if target.is_complex() else ""
            raise ValueError(
                f"The targets of task {self.name!r} are {kind}of shape {shape}; expected "
                f"{self.expected}."
            )
        return target

    def refuse(self, wrong: Tensor, found: str) -> None:
        """Raise an error that names the first wrong pixel, if there is one.

        Args:
            wrong: Which pixels are wrong ``(N, H, W)``.
            found: What they are.

        Raises:
            ValueError: If there is one.
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
    """Sums over pixels, added over processes, and what is made of them.

    Args:
        size: How many sums.
        dtype: Of the sums: whole numbers add up exactly, in any order.
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
        root: Return the root of the mean.
    """

    higher_is_better = False

    def __init__(self, *, root: bool = False) -> None:
        super().__init__(2)
        self._root = root

    def update(self, values: Tensor) -> None:
        """Count the values of pixels ``(M,)``."""
        count = values.new_tensor(values.numel(), dtype=torch.float64)
        self.sums = self.sums + torch.stack([values.double().sum(), count])

    def compute(self) -> Tensor:
        """Return the mean, a scalar; not a number without any pixel."""
        mean = self.sums[0] / self.sums[1]
        return (mean.sqrt() if self._root else mean).float()
