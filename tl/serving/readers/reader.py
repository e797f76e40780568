"""What reads samples as a source was read in training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from tl.batch import Inputs


class Reader(ABC):
    """Reads samples as a source was read in training.

    Attributes:
        takes: What :meth:`read` takes, in words.
        modality: ``images``, ``texts`` or ``tensors``.
    """

    takes: str
    modality: str

    @property
    def way(self) -> str:
        """What readers have in common that read alike; no two do by default."""
        return str(id(self))

    @property
    def form(self) -> str:
        """What readers have in common that take the same samples."""
        return self.modality

    @abstractmethod
    def spread(self, given: object) -> tuple[list[Any], bool]:
        """Return the samples that something holds, and whether it is a single one."""

    @abstractmethod
    def read(self, sample: object) -> Any:  # noqa: ANN401 - what `join` takes
        """Read one sample.

        Raises:
            ValueError: If it cannot be read.
        """

    @abstractmethod
    def join(self, samples: Sequence[Any]) -> Inputs:
        """Return the inputs of several samples that were read."""
