from __future__ import annotations

import pytest

from tl.runs.choosing import forget_choice


@pytest.fixture(autouse=True)
def _nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TL_RESUMED_FROM", "to be put back")
    forget_choice()
