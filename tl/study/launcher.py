"""Run a command that ends with the process that started it: ``launcher.py PARENT COMMAND...``."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel signal this process when the one that started it ends, however it ends.

    Does nothing where the kernel is not Linux.

    Args:
        parent: Process id of the one that started it; if it has already ended, so does this one.
        number: The signal.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:
        sys.exit(128 + int(number))


def main(arguments: list[str]) -> None:
    """Replace this process by a command.

    Args:
        arguments: The parent's process id, and the command.
    """
    end_with(int(arguments[0]))
    os.execv(arguments[1], arguments[1:])  # noqa: S606 - our own command


if __name__ == "__main__":
    main(sys.argv[1:])
