"""Seconds of steps by a clock that a test sets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from tl.callbacks.step_clock import StepClock, log_rates


def test_a_step_lasts_from_end_to_end_and_a_pause_is_left_out() -> None:
    times = iter([1.0, 3.0, 4.5, 100.0, 107.0])
    clock = StepClock(lambda: next(times))
    assert clock.waited() is None
    assert clock.tick() is None
    assert clock.waited() == 2
    assert clock.tick() == 3.5
    clock.pause()
    assert clock.waited() is None
    assert clock.tick() is None
    assert clock.tick() == 7


def test_a_foreign_module_logs_by_itself() -> None:
    logged: list[Any] = []
    module = cast("Any", SimpleNamespace(log_dict=logged.append))
    log_rates(cast("Any", None), module, {"perf/a": 1.0})
    assert logged == [{"perf/a": 1.0}]
