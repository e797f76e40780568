"""Samples read one by one: those that cannot be are named, the others are answered."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tl.serving.readers import Reader


def warn_of_unread(errors: Sequence[str | None]) -> None:
    """Warn of the samples that could not be read.

    Raises:
        ValueError: If none could.
    """
    bad = [error for error in errors if error is not None]
    if bad and len(bad) == len(errors):
        raise ValueError(f"No sample can be read, the first: {bad[0]}")
    if bad:
        warnings.warn(
            f"{len(bad)} of {len(errors)} samples cannot be read, the first: {bad[0]}", stacklevel=3
        )


def batches_of(samples: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield samples in parts of at most `size`.

    Raises:
        ValueError: If `size` is below 1.
    """
    if size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {size}.")
    for first in range(0, len(samples), size):
        yield samples[first : first + size]


def _one(reader: Reader, sample: object) -> Any:  # noqa: ANN401
    """Read a sample, with its name in the error."""
    try:
        return reader.read(sample)
    except (OSError, ValueError) as error:
        named = isinstance(sample, str | Path) and len(str(sample)) < 200  # noqa: PLR2004
        where = f"{sample}: " if named and str(sample) not in str(error) else ""
        raise ValueError(f"{where}{' '.join(str(error).split()).removesuffix('.')}.") from error


def read_each(
    reader: Reader, samples: Sequence[Any], *, single: bool
) -> tuple[list[Any], list[str | None]]:
    """Read samples; return those that could be, and why each of the others could not.

    Raises:
        ValueError: If `single` and the sample cannot be read.
    """
    read: list[Any] = []
    errors: list[str | None] = []
    for sample in samples:
        try:
            read.append(_one(reader, sample))
        except ValueError as error:
            if single:
                raise
            errors.append(str(error))
        else:
            errors.append(None)
    return read, errors
