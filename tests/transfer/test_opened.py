from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small import module, tiny_data, trainer
from tl.checkpoints.files import CheckpointError, read_hashed
from tl.transfer import opened as opened_module
from tl.transfer.opened import OpenedSource, opened
from tl.transfer.penalties import EWC, L2SP, CoTuning, Distillation, LwF


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read."""
    found: list[Path] = []

    def counted(path: Path) -> Any:
        found.append(path)
        return read_hashed(path)

    monkeypatch.setattr(opened_module, "read_hashed", counted)
    return found


def test_a_file_is_read_when_asked_for_and_once(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"w": torch.ones(1)}, path)
    source = opened(path)
    assert opened(source) is source
    assert str(source) == str(path)
    assert reads == []
    assert source.read() is source.read()
    assert reads == [path]
    assert copy.deepcopy(source).read()[2] == source.read()[2]
    source.close()
    source.read()
    assert reads == [path] * 3


def test_what_could_not_be_read_is_tried_again(tmp_path: Path) -> None:
    source = OpenedSource(tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="no such file"):
        source.read()
    torch.save({"w": torch.ones(1)}, tmp_path / "a.ckpt")
    assert set(source.read()[1]) == {"w"}


def test_backbone_heads_and_penalties_share_one_reading(tmp_path: Path, reads: list[Path]) -> None:
    data, path = tiny_data(), tmp_path / "source.ckpt"
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module(data), data)
    run.save_checkpoint(path)
    penalties = [L2SP(), LwF(), CoTuning(), Distillation(), EWC(tiny_data(), images=4)]
    built = module(data, init_from=str(path), init_heads=True, penalties=penalties)
    assert reads == [path]
    trainer(tmp_path, max_steps=1).fit(built, data)
    assert reads == [path]
