from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tl.backbones import ResNet20
from tl.cli import main


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.save(ResNet20().state_dict(), tmp_path / "a.pt")
    return tmp_path / "a.pt"


def test_lineage_prints_text_and_json(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["lineage", str(weights)])
    assert capsys.readouterr().out.startswith("a.pt\n")
    main(["lineage", str(weights), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["path"] == "a.pt"
    assert len(found["sha256"]) == 64
