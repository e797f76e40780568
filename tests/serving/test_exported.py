from __future__ import annotations

import json
from pathlib import Path

import pytest

import tl
from tests.serving.test_exporting import saved
from tests.small import Tiny, module, tiny_data
from tl.checkpoints.errors import CheckpointError
from tl.serving.exported import is_export
from tl.serving.exporting import export


def test_a_folder_is_an_export_by_its_configuration(tmp_path: Path) -> None:
    assert not is_export(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert not is_export(tmp_path)
    (tmp_path / "config.json").write_text("[")
    assert not is_export(tmp_path)


def test_a_damaged_or_newer_export_is_refused_in_one_line(tmp_path: Path) -> None:
    data = tiny_data()
    folder = export(saved(tmp_path, module(data), data), tmp_path / "out", backbone=Tiny()).folder
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"\A[^\n]*does not match the checksum[^\n]*\Z"):
        tl.load(folder, backbone=Tiny())
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"\A[^\n]*model\.safetensors: no such file[^\n]*\Z"):
        tl.load(folder, backbone=Tiny())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tl_export": 2}))
    with pytest.raises(CheckpointError, match="is of the format 2, this version of tl reads 1"):
        tl.load(folder, backbone=Tiny())
