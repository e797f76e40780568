from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tl.backbones import MTAN, CrossStitch
from tl.backbones.resnet_cifar import ResNetCifar
from tl.backbones.streams import StreamsBackbone
from tl.transfer.weights import WeightsMismatchError, holds_streams, load_weights

KINDS: list[type[StreamsBackbone]] = [MTAN, CrossStitch]


def built(kind: type[StreamsBackbone], *tasks: str) -> StreamsBackbone:
    backbone = kind(ResNetCifar(14))
    backbone.name_tasks(tasks)
    return backbone


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_streams_is_known_by_its_names(kind: type[StreamsBackbone]) -> None:
    names = built(kind, "a", "b").state_dict().keys()
    wrapped = [f"backbone.{name}" for name in names]
    for tasks, fits in ((("a", "b"), True), (("a", "c"), False), (("a", "b", "c"), False)):
        assert holds_streams(names, built(kind, *tasks)) is fits
        assert holds_streams(wrapped, built(kind, *tasks)) is fits
    assert not holds_streams(ResNetCifar(14).state_dict().keys(), built(kind, "a"))


def test_an_mtan_of_other_tasks_gives_its_shared_network(tmp_path: Path) -> None:
    source, target = built(MTAN, "a", "b"), built(MTAN, "b", "c")
    new = target.state_dict()["attention.b.0.0.weight"].clone()
    torch.save(source.state_dict(), tmp_path / "a.pt")
    report = load_weights(target, tmp_path / "a.pt")
    for name, value in target.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(value, source.state_dict()[name])
    assert torch.equal(target.state_dict()["attention.b.0.0.weight"], new)
    assert any(name.startswith("attention.b.") for name in report.reinitialised)
    assert any(name.startswith("attention.a.") for name in report.unused)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_the_single_network_may_stay_as_they_are(
    kind: type[StreamsBackbone], tmp_path: Path
) -> None:
    target = built(kind, "a", "b")
    torch.save(ResNetCifar(14).state_dict(), tmp_path / "a.pt")
    report = load_weights(target, tmp_path / "a.pt", reinit=["conv1"])
    first = "backbone" if kind is MTAN else "network.b"
    assert f"{first}.conv1.weight" in report.reinitialised
    assert f"{first}.bn1.weight" in report.loaded
    assert sum(report.values["loaded"].values()) == sum(
        value.numel() for name, value in target.state_dict().items() if name in report.loaded
    )


@pytest.mark.parametrize("kind", KINDS)
def test_another_network_is_refused(kind: type[StreamsBackbone], tmp_path: Path) -> None:
    torch.save(ResNetCifar(20).state_dict(), tmp_path / "a.pt")
    with pytest.raises(WeightsMismatchError, match="deeper network"):
        load_weights(built(kind, "a"), tmp_path / "a.pt")
