"""Many small jobs in threads, with a progress bar."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.markup import escape
from rich.progress import track

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


def progress(items: Iterable[_T], total: int, what: str, least: int = 200) -> Iterator[_T]:
    """Show a progress bar on standard error while iterating, if it is long enough to wait for.

    Of several processes that do the same, one shows it. Piped, there is none.

    Args:
        items: What to iterate over.
        total: How many there are.
        what: What is done, in a word or two.
        least: How many are long enough to wait for.
    """
    console = Console(file=sys.stderr)  # also while others are kept from writing there
    return iter(
        track(
            items,
            total=total,
            description=escape(what),  # a folder's name may look like markup
            console=console,
            transient=True,
            disable=total < least
            or getattr(rank_zero_only, "rank", 0) > 0
            # a file would receive its empty last line
            or not (console.is_interactive or console.is_jupyter),
        )
    )
