from __future__ import annotations

from types import SimpleNamespace

import pytest
from lightning.pytorch.callbacks import ModelSummary, TQDMProgressBar

from tl.callbacks import EpochTable, RunHeader, RunProgressBar
from tl.cli.printing import printing

UNSET = SimpleNamespace(enable_progress_bar=None, enable_model_summary=None)


def kinds(found: dict[str, object]) -> list[type]:
    callbacks = found["callbacks"]
    assert isinstance(callbacks, list)
    return [type(callback) for callback in callbacks]


def test_a_terminal_gets_our_bar_and_a_file_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tl.cli.printing.bar_is_readable", lambda: True)
    found = printing(UNSET, [], trains=True, ours=True)
    assert kinds(found) == [RunProgressBar, RunHeader, EpochTable]
    assert found["enable_model_summary"] is False
    monkeypatch.setattr("tl.cli.printing.bar_is_readable", lambda: False)
    found = printing(UNSET, [], trains=False, ours=False)
    assert kinds(found) == [EpochTable]
    assert found["enable_progress_bar"] is False


def test_bar_and_summary_of_the_user_replace_ours() -> None:
    found = printing(UNSET, [TQDMProgressBar(), ModelSummary()], trains=True, ours=True)
    assert kinds(found) == [TQDMProgressBar, ModelSummary, RunHeader, EpochTable]
    header = found["callbacks"][2]
    assert not header.table
    assert "enable_model_summary" not in found
