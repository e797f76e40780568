from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import pytest

from tl.serving.readers import TensorReader
from tl.serving.reading import batches_of, read_each, warn_of_unread


class Odd(TensorReader):
    """Reads odd numbers."""

    def __init__(self) -> None:
        super().__init__({})

    def read(self, sample: object) -> Any:
        if int(str(sample)) % 2 == 0:
            raise ValueError("an even\n number.")
        return sample


def test_those_that_cannot_be_read_leave_the_others() -> None:
    assert read_each(Odd(), [1, 2, 3], single=False) == ([1, 3], [None, "an even number.", None])
    assert read_each(Odd(), ["4"], single=False)[1] == ["4: an even number."]
    with pytest.raises(ValueError, match="an even number"):
        read_each(Odd(), [2], single=True)


def test_samples_come_in_parts() -> None:
    parts: list[Sequence[int]] = [*batches_of([1, 2, 3, 4, 5], 2)]
    assert parts == [[1, 2], [3, 4], [5]]
    with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
        next(batches_of([1], 0))


def test_a_warning_unless_none_could_be_read() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_unread([None, None])
    with pytest.warns(UserWarning, match="1 of 2 samples cannot be read, the first: bad"):
        warn_of_unread([None, "bad"])
    with pytest.raises(ValueError, match="No sample can be read, the first: bad"):
        warn_of_unread(["bad", "worse"])
