from __future__ import annotations

import pytest
from lightning.pytorch.utilities import rank_zero_only

from tl.data.progress import progress


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
