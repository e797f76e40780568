"""Signals that stop a program anywhere, with one line and a distinct exit code."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

# Windows lacks the last two
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class StoppedBySignal(BaseException):
    """A run was stopped by a signal.

    Args:
        number: The signal.
        checkpoint: Path of the saved checkpoint; ``None`` if it was stopped at once.
    """

    def __init__(self, number: int, checkpoint: str | None = None) -> None:
        saved = "nothing was saved" if checkpoint is None else f"saved {checkpoint}"
        super().__init__(f"stopped by {signal.Signals(number).name}, {saved}")
        self.number = number
        self.checkpoint = checkpoint


class CommandEnded(SystemExit):
    """A command ended with an error, which it has printed.

    Args:
        line: What it printed.
        code: Exit code.
    """

    def __init__(self, line: str, code: int) -> None:
        super().__init__(code)
        self.line = line


class StopAtOnce:
    """Signal handler that raises in the process that installed it, not in loaders' workers."""

    def __init__(self) -> None:
        self.process = os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raise :class:`StoppedBySignal`."""
        if os.getpid() == self.process:
            raise StoppedBySignal(number)


def heeded(number: int) -> bool:
    """Return whether a signal is not ignored, as SIGHUP is under nohup."""
    return signal.getsignal(number) is not signal.SIG_IGN


def stop_on_signals(numbers: Sequence[int] = SIGNALS) -> None:
    """Make signals raise :class:`StoppedBySignal`, anywhere in the program.

    During training, `tl.callbacks.SaveOnSignal` handles them instead. Ignored signals stay ignored.
    Does nothing outside the main thread, where signals cannot be handled.

    Args:
        numbers: The signals.
    """
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            if heeded(number):
                signal.signal(number, StopAtOnce())


@contextmanager
def signals_as_before() -> Iterator[None]:
    """Restore the handlers of signals at the end, for a notebook or a program around it."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: not set from Python
                signal.signal(number, handler)
