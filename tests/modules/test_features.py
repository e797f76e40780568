from __future__ import annotations

import pickle
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from tests.small import Tiny
from tl.backbones import MTAN, LoraBackbone, ResNet20
from tl.backbones.base import offered
from tl.modules.features import FeatureReader, Features, head_of, name_tasks
from tl.tasks import Classification
from tl.tasks.base import Reads
from tl.tasks.heads import map_channels, vector_length

VECTOR = Classification("a", 3)


class OnMaps(Classification):
    reads: ClassVar[Reads] = "maps"


class OnTokens(Classification):
    reads: ClassVar[Reads] = "tokens"


class Words(nn.Module):
    """Gives tokens."""

    num_features = 4

    def maps(self, inputs: Any) -> Tensor:
        """Return tokens ``(N, L, 4)``."""
        return torch.as_tensor(inputs["ids"])[..., None].expand(-1, -1, 4).float()

    def pool(self, tokens: Tensor) -> Tensor:
        """Return their mean."""
        return tokens.mean(1)


def test_maps_are_computed_only_where_a_task_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    net = ResNet20().eval()
    images = torch.randn(2, 3, 8, 8)
    both = FeatureReader([VECTOR, OnMaps("b", 3)])(net, images)
    assert both.maps is not None
    assert [tuple(each.shape[1:]) for each in both.maps] == [(16, 8, 8), (32, 4, 4), (64, 2, 2)]
    assert both.size == (8, 8)
    assert torch.equal(both.vector, net(images))
    monkeypatch.setattr(ResNet20, "pool", None)  # the plain forward needs nothing else
    monkeypatch.setattr(ResNet20, "forward", lambda _, images: images.mean((2, 3)))
    assert FeatureReader([VECTOR])(net, images).maps is None


def test_parts_of_a_joint_pass() -> None:
    vector, maps = torch.arange(5.0)[:, None], [torch.arange(5.0), torch.arange(5.0) + 5]
    first, second = Features(vector, maps, (8, 9)).split([2, 3])
    assert first.vector.flatten().tolist() == [0, 1]
    assert second.maps is not None
    assert [each.tolist() for each in second.maps] == [[2, 3, 4], [7, 8, 9]]
    assert second.size == (8, 9)
    [tokens] = Features(vector, vector[None].expand(5, -1, -1)).split([5])
    assert isinstance(tokens.maps, Tensor)
    assert [each.maps for each in Features(vector).split([5])] == [None]


def test_streams_of_a_joint_pass_and_what_heads_read_of_them() -> None:
    streams = {"a": Features(torch.arange(5.0)[:, None]), "b": Features(torch.ones(5, 1))}
    _, second = Features(torch.zeros(5, 1), streams=streams).split([2, 3])
    assert second.vector.flatten().tolist() == [0, 0, 0]
    read = [second.read_by(VECTOR, nn.Identity()), second.read_by(VECTOR, nn.Identity(), "b")]
    assert [each.flatten().tolist() for each in read] == [[2, 3, 4], [1, 1, 1]]


def test_streams_are_those_of_the_tasks_that_read_a_source() -> None:
    tasks = {
        "a": Classification("a", 3, source="x"),
        "b": Classification("b", 3, source="y"),
        "c": Classification("c", 3, source="y", shares="a"),
        "d": Classification("d", 3),
    }
    backbone = MTAN(ResNet20())
    name_tasks(backbone, tasks)
    assert backbone.tasks == ("a", "b", "d")
    reader = FeatureReader(tasks.values())
    images = torch.randn(2, 3, 8, 8)
    for source, wanted in ((None, "abd"), ("x", "ad"), ("y", "abd")):
        found = reader(backbone.eval(), images, source)
        assert found.streams is not None
        assert list(found.streams) == list(wanted)
        assert all(stream.size == () for stream in found.streams.values())
    whole = FeatureReader([*tasks.values(), OnMaps("e", 3)])(backbone, images)
    assert whole.streams is not None
    assert whole.streams["a"].size == (8, 8)


def test_tokens_of_a_dict_of_inputs() -> None:
    task = OnTokens("words", 3)
    head = head_of(task, Words())
    found = FeatureReader([task])(Words(), {"ids": torch.ones(2, 7, dtype=torch.int64)})
    assert found.read_by(task, head).shape == (2, 7, 3)
    assert torch.equal(found.vector, torch.ones(2, 4))


@pytest.mark.parametrize(
    ("task", "net", "words"),
    [
        (
            OnMaps("depth", 3),
            Tiny(),
            "'depth' reads maps, and the backbone Tiny gives vectors only",
        ),
        (OnTokens("ner", 3), ResNet20(), "'ner' reads tokens, and the backbone ResNet20 gives vec"),
        (OnMaps("depth", 3), Words(), "Words gives vectors and tokens; take a backbone with maps"),
        (OnMaps("depth", 3), nn.Sequential(), "has no integer attribute `num_features`"),
    ],
)
def test_a_backbone_without_what_a_task_reads(
    task: Classification, net: nn.Module, words: str
) -> None:
    with pytest.raises(ValueError, match="(?s)^(?!.*\n).*" + words):
        head_of(task, net)


def test_inputs_without_images_have_no_size_for_a_head_on_maps() -> None:
    reader = FeatureReader([OnMaps("depth", 3)])
    with pytest.raises(ValueError, match=r"'depth' reads maps.*size of the images.*got \(2, 7\)"):
        reader(Words(), {"ids": torch.ones(2, 7)})


def test_what_was_compiled_stays_out_of_copies() -> None:
    reader, net = FeatureReader([OnMaps("b", 3)]), ResNet20()
    reader.compile(net, None)
    copy = pickle.loads(pickle.dumps(reader))  # noqa: S301 - our own
    assert reader.compiled is not None
    assert copy.compiled is None


def test_what_is_offered() -> None:
    assert offered(ResNet20()) == "maps"
    assert offered(Words()) == "tokens"
    assert offered(Tiny()) is None
    child = nn.Module()
    child.maps = child.pool = nn.Identity()
    assert offered(child) is None


def test_adapters_pass_maps_on() -> None:
    pytest.importorskip("peft")
    net = LoraBackbone(ResNet20()).eval()
    images = torch.randn(2, 3, 8, 8)
    assert net.map_channels == (16, 32, 64)
    assert torch.equal(net.pool(net.maps(images)), net(images))
    assert offered(LoraBackbone(ResNet20())) == "maps"


def test_lengths_and_channels_are_told_apart() -> None:
    assert vector_length(4) == 4
    assert map_channels([4, 8]) == (4, 8)
    with pytest.raises(TypeError, match='`reads = "maps"`'):
        map_channels(4)
    with pytest.raises(TypeError, match=r"takes their length, got \(4, 8\)"):
        vector_length((4, 8))


@pytest.mark.parametrize("task", [VECTOR, OnMaps("b", 3)])
def test_integers_are_named_where_a_backbone_computes_with_floats(task: Classification) -> None:
    images = torch.ones(2, 3, 8, 8, dtype=torch.int32)
    said = r"ResNet20 cannot compute with inputs of torch.int32 of shape \(2, 3, 8, 8\): "
    with pytest.raises(ValueError, match=said):
        FeatureReader([task])(ResNet20(), images)
