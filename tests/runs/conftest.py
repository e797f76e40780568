from __future__ import annotations

import pytest

from tl.runs.choosing import forget_choice


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The logged lines."""
    said: list[str] = []
    for module in ("runs.choosing", "runs.resume", "runs.same_run"):
        monkeypatch.setattr(f"tl.{module}.rank_zero_info", said.append)
    return said


@pytest.fixture(autouse=True)
def _nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TL_RESUMED_FROM", "to be put back")
    forget_choice()
