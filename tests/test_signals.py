from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tl.cli import main
from tl.signals import (
    SIGNALS,
    CommandEnded,
    StoppedBySignal,
    signals_as_before,
    stop_on_signals,
)


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


def test_handlers_are_restored_after_a_command() -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    with signals_as_before():
        stop_on_signals()
    assert {number: signal.getsignal(number) for number in SIGNALS} == before
    ended = CommandEnded("it is gone", 2)
    assert (ended.code, ended.line) == (2, "it is gone")
    assert main(["fit", "nowhere"]) == 2
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


def test_ctrl_c_during_the_imports_ends_in_one_line(tmp_path: Path) -> None:
    pressed = (
        "import os, runpy, signal, sys\n"
        "class Pressed:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'tl.cli.entry':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Pressed())\n"
        "sys.argv = ['tl', 'fit', 'nowhere']\n"
        "runpy.run_module('tl.cli', run_name='__main__')\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", pressed], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ran.returncode == 128 + signal.SIGINT
    assert ran.stderr == "tl: stopped by SIGINT, nothing was saved.\n"
