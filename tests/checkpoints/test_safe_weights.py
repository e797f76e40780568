from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from tl.checkpoints.files import CheckpointError, read_checkpoint
from tl.checkpoints.safe_weights import from_safetensors, to_safetensors

RECORD = {
    "format": 1,
    "tasks": [{"name": "ten", "num_classes": 10}],
    "class_names": {"ten": ["cat", "dög"]},
    "data": {"name": "ten", "fingerprint": "generated:1"},
    "provenance": {"path": "a.ckpt", "parent": None},
    "statistics": {"norm": torch.ones(2)},
}


def checkpoint(state: dict[str, Any]) -> dict[str, Any]:
    return {"state_dict": state, "tl": RECORD, "epoch": 3, "global_step": 40, "callbacks": {}}


def test_weights_come_back_with_their_record(tmp_path: Path) -> None:
    state = {
        "backbone.conv.weight": torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last),
        "backbone.norm.num_batches_tracked": torch.tensor(7),
        "heads.ten.weight": torch.randn(10, 4).to(torch.bfloat16),
        "empty": torch.zeros(0, 3),
    }
    path = tmp_path / "best.safetensors"
    path.write_bytes(to_safetensors(checkpoint(state)))
    plain = safetensors.torch.load_file(path)
    assert plain.keys() == state.keys()
    assert all(torch.equal(plain[name], state[name]) for name in state)
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    assert json.loads(metadata["tasks"]) == RECORD["tasks"]
    assert json.loads(metadata["class_names"]) == RECORD["class_names"]
    read = read_checkpoint(path)
    assert read["tl"] == {k: v for k, v in RECORD.items() if k not in ("format", "statistics")}
    assert (read["epoch"], read["global_step"]) == (3, 40)
    assert all(torch.equal(read["state_dict"][name], state[name]) for name in state)


def test_tied_and_sliced_tensors_are_written_each_by_itself() -> None:
    whole = torch.arange(12.0).reshape(4, 3)
    state = {"a": whole, "tied": whole, "part": whole[1:3], "turned": whole.T, "word": "no tensor"}
    read = from_safetensors(to_safetensors(checkpoint(state)))["state_dict"]
    assert read.keys() == {"a", "tied", "part", "turned"}
    for name, value in read.items():
        assert torch.equal(value, torch.as_tensor(state[name])), name


def test_every_flipped_bit_is_refused_or_harmless(tmp_path: Path) -> None:
    state = {"backbone.w": torch.arange(100.0), "heads.ten.weight": torch.ones(3)}
    whole = to_safetensors(checkpoint(state))
    right = from_safetensors(whole)
    rng = np.random.default_rng(0)
    path = tmp_path / "a.safetensors"
    refused = 0
    for place in rng.integers(len(whole) * 8, size=200):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        try:
            read = read_checkpoint(path)
        except CheckpointError:
            refused += 1
            continue
        # without the mark of the checksum it is a file of others: the tensors, and no record
        assert "state_dict" not in read or read["tl"] == right["tl"], place
        tensors = read.get("state_dict", read)
        assert tensors.keys() == state.keys(), place
        assert all(torch.equal(tensors[name], state[name]) for name in state), place
    assert refused > 150


def test_files_of_others_are_read_as_before() -> None:
    whole = safetensors.torch.save({"a": torch.ones(1)}, {"epoch": "not ours"})
    assert from_safetensors(whole).keys() == {"a"}
    ours = to_safetensors(checkpoint({"a": torch.ones(1)}))
    with pytest.raises(ValueError, match="checksum"):
        from_safetensors(ours[:-1] + b"\xff")
