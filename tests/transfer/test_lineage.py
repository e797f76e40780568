"""A checkpoint tells its whole past, and a foreign one that it has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.small import module as tiny_module
from tests.small import tiny_data, trainer
from tl.backbones.resnet_cifar import ResNetCifar
from tl.checkpoints.files import CheckpointError, file_sha256
from tl.transfer.lineage import lineage
from tl.transfer.weights import load_weights


def save(path: Path, net: nn.Module, provenance: dict[str, Any] | None, task: str) -> Path:
    """Write a checkpoint as the LightningModules do."""
    record = {
        "tasks": [{"name": task, "num_classes": 10}],
        "data": {
            "name": task,
            "fingerprint": f"generated:{task}",
            "images": {"train": 1200, "val": 20},
        },
        "provenance": provenance,
    }
    state = {f"backbone.{name}": value for name, value in net.state_dict().items()}
    torch.save({"state_dict": state, "tl": record, "epoch": 3, "global_step": 1010}, path)
    return path


def three_generations(folder: Path) -> Path:
    net = ResNetCifar(depth=8)
    path = save(folder / "first.ckpt", net, None, "a")
    for name, task, reinit in (("second.ckpt", "b", ["conv1"]), ("third.ckpt", "c", [])):
        net = ResNetCifar(depth=8)
        path = save(folder / name, net, load_weights(net, path, reinit=reinit).record(), task)
    return path


def test_the_chain_goes_back_to_the_first(tmp_path: Path) -> None:
    third = lineage(three_generations(tmp_path))
    [second] = third.sources
    [first] = second.sources
    assert first.sources == ()
    assert [n.path for n in (third, second, first)] == ["third.ckpt", "second.ckpt", "first.ckpt"]
    for found in (third, second, first):
        assert found.sha256 == file_sha256(tmp_path / found.path)
        assert (found.epoch, found.global_step) == (3, 1010)
    assert [n.tasks for n in (third, second, first)] == [{"c": 10}, {"b": 10}, {"a": 10}]
    assert first.data == {"a": {"images": 1200, "fingerprint": "generated:a"}}
    assert first.start is None
    assert second.start is not None
    assert second.start["tensors"] == 41
    assert second.start["reinitialised"] == ["conv1.weight"]
    assert second.start["unused"] == ["backbone.conv1.weight"]
    assert third.start is not None
    assert (third.start["tensors"], third.start["reinitialised"]) == (42, [])


def test_the_text_has_it_all(tmp_path: Path) -> None:
    text = lineage(three_generations(tmp_path)).table()
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == "third.ckpt"
    assert "tasks   b (10 classes)" in lines
    assert "data    a: 1,200 training images, fingerprint generated:a" in lines
    assert "epoch   3, counted from 0, step 1,010" in lines
    assert any("re-initialised: conv1.weight; unused: backbone.conv1.weight" in x for x in lines)
    assert lines[-1] == "start   random weights"
    assert lines.count("from:") == 2


def test_plain_weights_have_no_past(tmp_path: Path) -> None:
    torch.save(ResNetCifar(depth=8).state_dict(), tmp_path / "a.pt")
    found = lineage(tmp_path / "a.pt")
    assert found.sources == ()
    assert "without a record of its origin" in found.table()
    assert "random" not in found.table()


def test_a_real_run_tells_its_data(tmp_path: Path) -> None:
    data = tiny_data()
    run = trainer(tmp_path, max_epochs=1)
    run.fit(tiny_module(data), data)
    run.save_checkpoint(tmp_path / "a.ckpt")
    found = lineage(tmp_path / "a.ckpt")
    assert found.data == {
        data.data_name: {"images": len(data.splits["train"]), "fingerprint": data.fingerprint}
    }
    assert found.tasks == {data.tasks[0].name: 10}
    assert "random weights" in found.table()


def test_records_of_other_types_are_left_out(tmp_path: Path) -> None:
    odd = {"path": 3, "data": {"x": {"images": []}}, "loaded": "all", "tasks": [1], "unused": "\n"}
    torch.save({"tl": {"provenance": odd, "tasks": None}, "epoch": "no"}, tmp_path / "a.pt")
    found = lineage(tmp_path / "a.pt")
    assert found.epoch is None
    assert found.sources[0].path == "unknown"
    assert "\n\n" not in found.table()


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_text("text")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        lineage(tmp_path / "a.ckpt")
