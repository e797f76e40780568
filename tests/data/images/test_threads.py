from __future__ import annotations

import threading

import pytest

from tl.data.images.threads import in_threads


def test_every_number_is_done_once_and_in_order() -> None:
    done: list[int] = []
    lock = threading.Lock()

    def square(number: int) -> int:
        with lock:
            done.append(number)
        return number**2

    assert in_threads(square, 101, "squares") == [number**2 for number in range(101)]
    assert sorted(done) == list(range(101))
    assert in_threads(square, 0, "nothing") == []


def test_an_error_ends_it() -> None:
    def fail(number: int) -> int:
        raise ValueError(f"number {number}")

    with pytest.raises(ValueError, match="number 0"):
        in_threads(fail, 5, "numbers")
