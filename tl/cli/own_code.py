"""Errors in a user's own code, which one line would not explain."""

from __future__ import annotations

import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import tl

_INSTALLED = tuple(
    {
        Path(tl.__file__).parent,
        *(
            Path(sysconfig.get_path(kind))
            for kind in ("stdlib", "platstdlib", "purelib", "platlib")
        ),
    }
)
_FRAME = re.compile(r'^  File "([^"]+)", line', re.MULTILINE)  # Python's own, in every version


def show_own(error: BaseException) -> None:
    """Print the traceback of an error that passes through code of the user's own.

    Such code is in no installed package: a callback, a task or a data module in the project's
    folder. Failures of the file system are left out: one line tells them.
    """
    if not isinstance(error, OSError) and any(map(_is_own, _files(error))):
        traceback.print_exception(error)


def _files(error: BaseException | None) -> Iterator[str]:
    """Yield the files that an error and its causes pass through, in a loader's worker too."""
    while error is not None:
        yield from (frame.filename for frame in traceback.extract_tb(error.__traceback__))
        yield from _FRAME.findall(str(error))  # a worker's error holds that process's traceback
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _is_own(file: str) -> bool:
    path = Path(file)
    return path.is_absolute() and not any(path.is_relative_to(place) for place in _INSTALLED)
