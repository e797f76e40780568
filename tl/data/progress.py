"""A progress bar for whatever takes a while outside of Lightning's loops."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.markup import escape
from rich.progress import track

_T = TypeVar("_T")


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
