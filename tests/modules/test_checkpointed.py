"""What a module takes in from checkpoints, and keeps in its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.runs import Tiny, module, tiny_data, trainer


def test_another_number_of_processes_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr("tl.modules.checkpointed.rank_zero_info", lines.append)
    data, path = tiny_data(), tmp_path / "a.ckpt"
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module(data), data)
    run.save_checkpoint(path)
    for there in (1, 2):
        content = torch.load(path, weights_only=True)
        content["tl"]["processes"] = there
        torch.save(content, path)
        trainer(tmp_path).fit(module(data), data, ckpt_path=path, weights_only=True)
        trainer(tmp_path).validate(
            module(data), data, ckpt_path=path, weights_only=True, verbose=False
        )
    [line] = lines
    assert "2 processes there, 1 here" in line


def test_what_is_loaded_in_python_is_the_network_that_was_saved(tmp_path: Path) -> None:
    data = tiny_data()
    ours, path = module(data), tmp_path / "a.ckpt"
    run = trainer(tmp_path)
    run.fit(ours, data)
    run.save_checkpoint(path)
    again = type(ours).load_from_checkpoint(path, backbone=Tiny())
    state = ours.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    assert torch.load(path, weights_only=True)["tl"]["tasks"][0]["num_classes"] == 10
