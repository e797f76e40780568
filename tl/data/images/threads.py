"""Many small jobs in threads, with a progress bar."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

from tl.data.progress import progress

_T = TypeVar("_T")
# files at a time: handing one over to a thread takes as long as hashing it
_TOGETHER = 32


def in_threads(function: Callable[[int], _T], count: int, what: str) -> list[_T]:
    """Apply a function to the numbers below `count` in threads, with a progress bar.

    Args:
        function: What to do; an error ends all.
        count: How many numbers.
        what: Description for the progress bar.
    """

    def together(first: int) -> list[_T]:
        return [function(number) for number in range(first, min(first + _TOGETHER, count))]

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        parts = pool.map(together, range(0, count, _TOGETHER))
        return list(progress(chain.from_iterable(parts), count, what))
