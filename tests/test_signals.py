from __future__ import annotations

import os
import signal

import pytest

from tl.signals import SIGNALS, StoppedBySignal, stop_on_signals


def test_signals_stop_the_program_wherever_it_is() -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number in before:
            signal.signal(number, signal.SIG_DFL)
        stop_on_signals()
        for number in before:
            with pytest.raises(StoppedBySignal) as stopped:
                os.kill(os.getpid(), number)
            assert stopped.value.number == number
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
