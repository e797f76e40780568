"""Entry point of ``python -m tl.cli``.

Checks that do not need Lightning run here first, because importing it takes seconds.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import TypeVar

from tl import __version__
from tl.cli.class_help import classes_of, with_class
from tl.cli.configuration import check_files
from tl.cli.help_page import help_of
from tl.cli.messages import USAGE_ERROR, exception_line
from tl.cli.on_runs import PREDICT_FILES, expanded
from tl.cli.own_code import show_own
from tl.cli.predict_files import run_predict_files
from tl.cli.short_forms import written_out
from tl.cli.verbs import VERBS, check_verb, run_verb
from tl.signals import CommandEnded, StoppedBySignal, stop_on_signals

T = TypeVar("T")
_SIGPIPE = 13  # Windows has no such signal


def run_to_end(args: list[str] | None) -> int:
    """Run the command line and return its exit code; see :func:`tl.cli.main`."""
    try:
        run_command(args)
        sys.stdout.flush()
    except BrokenPipeError:  # its reader has seen enough, as `| head` has
        if _has_reader():
            raise
        # nothing more can be written, not even by the interpreter's end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + _SIGPIPE
    except SystemExit as ended:  # of the parser, of the run, or of a failure
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)  # noqa: T201
            return 1
        return int(ended.code or 0)
    return 0


def run_command(args: list[str] | None) -> object:
    """Run the command line; its end may be a :class:`tl.signals.CommandEnded`.

    Args:
        args: Arguments in place of ``sys.argv``.

    Returns:
        The `TlCLI` that ran one of Lightning's verbs, if one did.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        # a terminal may lack the progress bar's characters, and file names may not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:] if args is None else args
    if arguments in (["--version"], ["-V"]):
        print(f"tl {__version__}")  # noqa: T201
        return None
    if page := help_of(arguments) or _or_one_line(lambda: classes_of(arguments)):
        print(page)  # noqa: T201
        return None
    stop_on_signals()
    _or_one_line(_find_own_classes)
    if arguments[:1] and arguments[0] in VERBS:
        _or_one_line(lambda: run_verb(arguments[0], arguments[1:]))
        return None
    _or_one_line(lambda: check_verb(arguments))
    arguments = _or_one_line(lambda: expanded(arguments))
    if arguments[:1] == [PREDICT_FILES]:
        _or_one_line(lambda: run_predict_files(arguments[1:]))
        return None
    return _or_one_line(lambda: _check_and_run(arguments))


def _find_own_classes() -> None:
    """Import from the working directory, as `python -m` does."""
    try:
        here = os.getcwd()  # noqa: PTH109 - as in sys.path
    except FileNotFoundError:
        raise ValueError("The working directory was deleted; change to an existing one.") from None
    if not {"", here} & set(sys.path):
        sys.path.insert(0, here)


def _check_and_run(arguments: list[str]) -> object:
    words = with_class(arguments)
    full = written_out("--help" if word == "--help-all" else word for word in words)
    check_files(full)
    from tl.private.deferred import import_lightly  # noqa: PLC0415 - torch

    import_lightly()
    from tl.cli.running import run  # noqa: PLC0415 - Lightning and all

    return run(full)


def _or_one_line(act: Callable[[], T]) -> T:
    """Call a function; on an error, exit with a one-line message."""
    try:
        return act()
    except StoppedBySignal as stopped:
        print(f"tl: {stopped}.", file=sys.stderr)  # noqa: T201
        sys.exit(128 + stopped.number)
    except Exception as error:  # a command ends in one line, whatever went wrong
        ended = isinstance(error, BrokenPipeError) and not _has_reader()  # or of another pipe
        if ended or os.environ.get("TL_DEBUG") == "1":
            raise
        show_own(error)
        line = exception_line(error)
        print(f"tl: {line}", file=sys.stderr)  # noqa: T201
        raise CommandEnded(line, USAGE_ERROR) from error


def _has_reader() -> bool:
    """Return whether somebody still reads what is printed."""
    with suppress(OSError):  # without a file, as in a notebook
        watched = select.poll()
        watched.register(sys.stdout.fileno(), select.POLLERR)
        return not watched.poll(0)
    return True
