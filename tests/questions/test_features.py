from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.small import Tiny, tiny_data
from tl.backbones import ResNet20
from tl.questions.features import Network, evaluating, features_of, positions
from tl.questions.samples import samples_of


class Counting(Tiny):
    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        type(self).calls += 1
        assert not self.norm.training
        return super().forward(images)


def read(samples: Sequence[Any]) -> Tensor:
    return torch.stack(list(samples)).float() / 255


def test_features_are_computed_once_in_evaluation_mode(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = tiny_data()
    data.setup("fit")
    samples = samples_of(data)
    backbone, head = Counting(), nn.Linear(8, 10)
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    network = Network(backbone, read, "as is", {"ten": head})
    first = features_of(network, samples, batch_size=60, cache=tmp_path)
    calls = Counting.calls
    again = features_of(network, samples, cache=tmp_path)
    assert Counting.calls == calls == 2
    assert torch.equal(first.features, again.features)
    assert torch.equal(first.outputs["ten"], again.outputs["ten"])
    assert first.features.shape == (110, 8)
    torch.testing.assert_close(first.outputs["ten"], head(first.features))
    assert backbone.norm.training
    assert all(torch.equal(v, backbone.state_dict()[k]) for k, v in before.items())

    features_of(Network(backbone, read, "another way", {"ten": head}), samples, cache=tmp_path)
    assert Counting.calls > calls  # another normalisation
    calls = Counting.calls
    with torch.no_grad():
        backbone.norm.weight[0] += 1e-6
    features_of(network, samples, cache=tmp_path)
    assert Counting.calls > calls  # another weight
    calls = Counting.calls
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-9])
    features_of(network, samples, cache=tmp_path)
    assert Counting.calls > calls  # a damaged file


class Locked(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def test_features_of_what_has_no_hash_are_not_cached_and_a_warning_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tiny_data()
    data.setup("fit")
    network = Network(Locked(), read, "as is")
    for scale in (1.0, 2.0):
        torch.nn.init.constant_(network.backbone.norm.bias, scale)  # type: ignore[arg-type, union-attr]
        found = features_of(network, samples_of(data, most=10), cache=tmp_path)
        again = features_of(network, samples_of(data, most=10), cache=tmp_path)
        assert torch.equal(found.features, again.features)
    assert [*tmp_path.iterdir()] == []
    [said] = caplog.messages
    assert "not cached: Locked.lock is or holds a lock" in said


def test_modes_come_back_part_by_part() -> None:
    net = Tiny()
    net.norm.eval()
    with evaluating(net):
        assert [part.training for part in net.modules()] == [False] * 3
    assert [part.training for part in net.modules()] == [True, True, False]


def test_maps_are_read_at_positions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = tiny_data()
    data.setup("fit")
    samples = samples_of(data, most=6)
    backbone = ResNet20()
    found = features_of(Network(backbone, read, "as is"), samples, places=3, cache=tmp_path)
    assert found.features.shape == (6, 3, sum(backbone.map_channels))
    assert found.places is not None
    torch.testing.assert_close(found.places, positions(torch.arange(6), 3))
    backbone.eval()
    with torch.no_grad():
        maps = backbone.maps(read(samples.items(torch.arange(6))))
    y, x = found.places[2, 1].tolist()
    by_hand = [each[2, :, int(y * each.shape[2]), int(x * each.shape[3])] for each in maps]
    torch.testing.assert_close(found.features[2, 1], torch.cat(by_hand), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="Tiny gives no maps"):
        features_of(Network(Tiny(), read, "as is"), samples, places=3, cache=tmp_path)
