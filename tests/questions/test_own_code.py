from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tl.questions.own_code import UnknownCodeError, code_of
from tl.questions.weights_hash import weights_hash

NET = """
from torch import nn
from own_helpers import SCALE
def act(x): return SCALE * x
class Base(nn.Module):
    def forward(self, x): return act(x)
class Net(Base): pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def imported(folder: Path, net: str = NET, scale: str = "1") -> ModuleType:
    """Import ``own_net`` and the module that it takes a number from, as a new process would."""
    for name, code in (("own_net", net), ("own_helpers", f"SCALE = {scale}")):
        (folder / f"{name}.py").write_text(code)
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return importlib.import_module("own_net")


def test_an_edited_base_class_helper_or_imported_module_has_another_hash(folder: Path) -> None:
    edits = [
        {},
        {"net": NET.replace("return act(x)", "return -act(x)")},
        {"net": NET.replace("SCALE * x", "SCALE - x")},
        {"scale": "2"},
    ]
    found = {weights_hash(imported(folder, **edit).Net()) for edit in edits}
    assert len(found) == len(edits)
    assert weights_hash(imported(folder).Net()) in found


def test_libraries_have_versions_and_own_modules_sources(folder: Path) -> None:
    imported(folder)
    found = code_of(["own_net", "torch.nn.modules.linear"])
    assert found["torch"] == torch.__version__
    assert found["own_net"] == NET
    assert found["own_helpers"] == "SCALE = 1"
    assert not any(name.startswith("torch.") for name in found)


def test_a_source_that_cannot_be_read_is_named(folder: Path) -> None:
    imported(folder)
    (folder / "own_net.py").unlink()
    with pytest.raises(UnknownCodeError, match="source of the module 'own_net' cannot be read"):
        code_of(["own_net"])
    with pytest.raises(UnknownCodeError, match="source of the module 'own_nothing' cannot be read"):
        code_of(["own_nothing"])
