"""What a transfer leaves behind for the reader and for the next checkpoint."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tl.backbones.resnet_cifar import ResNetCifar
from tl.checkpoints.files import file_sha256
from tl.transfer.provenance import TransferReport, source_record
from tl.transfer.weights import load_weights


def _checkpoint(path: Path, net: nn.Module, record: dict[str, Any], epoch: int) -> Path:
    """Write a checkpoint as the LightningModules do."""
    state = {f"backbone.{name}": value for name, value in net.state_dict().items()}
    state["heads.a.weight"] = torch.zeros(10, 64)
    torch.save({"state_dict": state, "tl": record, "epoch": epoch, "global_step": 10}, path)
    return path


def _report(tmp_path: Path) -> TransferReport:
    net = ResNetCifar(depth=8)
    record = {"tasks": ["a"], "data": {"a": {"fingerprint": "0f"}}, "provenance": None}
    path = _checkpoint(tmp_path / "source.ckpt", net, record, epoch=3)
    return load_weights(ResNetCifar(depth=8), path, reinit=["conv1"])


def test_record_says_what_came_from_where(tmp_path: Path) -> None:
    report = _report(tmp_path)
    assert report.record() == {
        "path": "source.ckpt",
        "sha256": file_sha256(tmp_path / "source.ckpt"),
        "tasks": ["a"],
        "data": {"a": {"fingerprint": "0f"}},
        "epoch": 3,
        "global_step": 10,
        "loaded": {"tensors": 41, "values": sum(report.values["loaded"].values())},
        "reinitialised": ["conv1.weight"],
        "unused": ["backbone.conv1.weight", "heads.a.weight"],
        "parent": None,
    }


def test_record_loads_as_weights_only(tmp_path: Path) -> None:
    record = _report(tmp_path).record()
    torch.save(record, tmp_path / "record.pt")
    assert torch.load(tmp_path / "record.pt", weights_only=True) == record
    assert torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "record.pt") == []


def test_provenance_chains_over_generations(tmp_path: Path) -> None:
    net = ResNetCifar(depth=8)
    provenance: dict[str, Any] | None = None
    for generation in ("first", "second", "third"):
        record = {"tasks": [generation], "data": {}, "provenance": provenance}
        path = _checkpoint(tmp_path / f"{generation}.ckpt", net, record, epoch=1)
        net = ResNetCifar(depth=8)
        provenance = load_weights(net, path).record()
    chain = []
    while provenance is not None:
        chain.append((provenance["path"], provenance["tasks"]))
        provenance = provenance["parent"]
    assert chain == [
        ("third.ckpt", ["third"]),
        ("second.ckpt", ["second"]),
        ("first.ckpt", ["first"]),
    ]


def test_a_plain_state_dict_has_no_past(tmp_path: Path) -> None:
    torch.save(ResNetCifar(depth=8).state_dict(), tmp_path / "a.pt")
    record = load_weights(ResNetCifar(depth=8), tmp_path / "a.pt").record()
    assert [record[key] for key in ("tasks", "data", "epoch", "parent")] == [None] * 4


def test_source_record_keeps_plain_types_only() -> None:
    content = {"tl": {"tasks": ("a", 1), "x": torch.ones(2), "y": {0: None}}, "epoch": 2}
    expected = {"tasks": ["a", 1], "x": "<Tensor>", "y": {"0": None}, "epoch": 2}
    assert source_record(content) == expected
    assert source_record({"tl": "text"}) == {}


def test_table_counts_tensors_and_values_per_part(tmp_path: Path) -> None:
    rows = [line.split() for line in _report(tmp_path).table().splitlines()]
    assert rows[0][-2:] == ["tensors", "(values):"]
    assert "100.0%" in rows[0]
    assert rows[1] == ["part", "loaded", "re-initialised", "unused"]
    assert ["bn1", "5", "(65)", "-", "-"] in rows
    assert ["conv1", "-", "1", "(432)", "1", "(432)"] in rows
    assert ["heads", "-", "-", "1", "(640)"] in rows
    assert rows[-1][0] == "total"
