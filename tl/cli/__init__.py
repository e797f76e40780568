"""The command line: ``python -m tl.cli fit --config configs/multitask.yaml``."""

import sys
from contextlib import nullcontext

from tl.signals import StoppedBySignal, signals_as_before, stop_on_signals

__all__ = ["main"]


def main(args: list[str] | None = None) -> int:
    """Run the command line, and return its exit code.

    Exit codes: 0 done, or nothing left to do for ``--resume auto``; 1 failed; 2 a mistake in the
    command, the configuration or the data, found before training; 128 + the signal's number when
    Ctrl-C, SIGTERM, SIGHUP or SIGUSR1 stopped a run, which can be resumed; 141 if the reader of its
    output, such as ``head``, ended. An error in code of the user's own shows its traceback, and
    with ``TL_DEBUG=1`` every error does.

    Args:
        args: Arguments in place of ``sys.argv``.

    Returns:
        The exit code. From Python, check it: no error is raised.
    """
    with nullcontext() if args is None else signals_as_before():
        try:
            stop_on_signals()  # first, because Ctrl-C may come during the imports
            from tl.cli.entry import run_to_end  # noqa: PLC0415

            return run_to_end(args)
        except StoppedBySignal as stopped:
            print(f"tl: {stopped}.", file=sys.stderr)  # noqa: T201
            return 128 + stopped.number
