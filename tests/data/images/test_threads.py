from __future__ import annotations

import threading

import pytest
from lightning.pytorch.utilities import rank_zero_only

from tl.data.images.threads import in_threads, progress


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


def test_progress_is_shown_by_one_process_also_for_names_that_look_like_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(progress(range(300), 300, "Checking [/b] folder")) == list(range(300))
    assert "[/b] folder" in capsys.readouterr().err
    monkeypatch.delenv("FORCE_COLOR")
    assert list(progress(range(300), 300, "Checking")) == list(range(300))
    assert capsys.readouterr().err == ""  # piped
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(progress(range(20), 20, "Checking")) == list(range(20))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert list(progress(range(300), 300, "Checking")) == list(range(300))
    assert capsys.readouterr().err == ""
