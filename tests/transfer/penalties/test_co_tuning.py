from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.transfer.penalties.steps import begun, checkpoint, network, start, step
from tl.transfer.penalties import CoTuning
from tl.transfer.penalties.co_tuning import class_relations, relation_figure


def logits(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).log()


def test_relations_by_hand() -> None:
    """The source's answers, averaged over the images of each target class."""
    first = (torch.stack([logits(0.9, 0.1), logits(0.5, 0.5)]), torch.tensor([0, 1]))
    second = (torch.stack([logits(0.7, 0.3), logits(0.2, 0.8)]), torch.tensor([0, -1]))
    table = class_relations(nn.Identity(), [first, second], 2)
    torch.testing.assert_close(table, torch.tensor([[0.8, 0.2], [0.5, 0.5]]))


def test_a_class_without_images_is_named() -> None:
    batch = (torch.zeros(2, 3), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match=r"1 of 3 classes have none: 1; use more labels"):
        class_relations(nn.Identity(), [batch], 3)
    with pytest.raises(ValueError, match=r"3 of 3 classes have none: 0, 1, 2"):
        class_relations(nn.Identity(), [], 3)


def test_the_value_by_hand() -> None:
    backbone, heads = nn.Identity(), nn.ModuleDict({"task": nn.Identity()})
    penalty = CoTuning(weight=2.0)
    penalty.head.linear = nn.Linear(2, 2)
    penalty.head.linear.load_state_dict({"weight": torch.eye(2), "bias": torch.zeros(2)})
    penalty.relations = torch.tensor([[0.8, 0.2], [0.5, 0.5]])
    features = torch.stack([logits(0.25, 0.75), logits(0.5, 0.5), logits(0.1, 0.9)])
    given = step(backbone, heads, features, torch.tensor([0, 1, -1]))
    first = -(0.8 * math.log(0.25) + 0.2 * math.log(0.75))
    second = math.log(2)
    assert float(penalty(given)) == pytest.approx(2 * (first + second) / 2)
    unlabelled = step(backbone, heads, features, torch.full((3,), -1))
    assert float(penalty(unlabelled)) == 0


def test_the_source_gives_head_and_relations(tmp_path: Path) -> None:
    source, old = network(seed=1, classes=3)
    path = checkpoint(tmp_path / "source.ckpt", source, old, {"task": ["x", "y", "z"]})
    backbone, heads = network(seed=2)
    penalty = CoTuning()
    begun(penalty, backbone, heads, path)
    [(pixels, labels)] = start(backbone, heads, path).batches("task")
    wanted = class_relations(nn.Sequential(source, old["task"]), [(pixels, labels)], 5)
    torch.testing.assert_close(penalty.relations, wanted)
    torch.testing.assert_close(penalty.relations.sum(1), torch.ones(5))
    assert penalty.head.linear is not None
    assert torch.equal(penalty.head.linear.weight, old["task"].get_parameter("weight"))
    kept = {"relations", "head.linear.weight", "head.linear.bias", "_extra_state"}
    assert set(penalty.state_dict()) == kept  # not the whole source


def test_the_picture_shows_the_table() -> None:
    table = torch.tensor([[0.8, 0.2, 0.0], [0.1, 0.4, 0.5]])
    figure = relation_figure(table, ["cat", "dog"], ["a", "b", "c"])
    axes, bar = figure.axes
    [image] = axes.images
    assert torch.equal(torch.as_tensor(np.asarray(image.get_array())), table)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]
    assert axes.get_xlabel() == "source class"
    assert "source class | target class" in bar.get_ylabel()
    assert len(relation_figure(torch.zeros(100, 1000)).axes) == 2


def test_the_picture_keeps_its_names_over_a_resume(tmp_path: Path) -> None:
    source, old = network(seed=1, classes=3)
    path = checkpoint(tmp_path / "source.ckpt", source, old, {"task": ["x", "y", "z"]})
    backbone, heads = network(seed=2)
    penalty, other = CoTuning(), CoTuning()
    penalty.attach(backbone, heads)
    state = start(backbone, heads, path, class_names={"task": tuple("abcde")})
    penalty.prepare(state)
    penalty.start(state)
    torch.save(penalty.state_dict(), tmp_path / "penalty.pt")
    other.load_state_dict(torch.load(tmp_path / "penalty.pt", weights_only=True))
    axes = other.figures()["class_relations"].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "y", "z"]
    assert [label.get_text() for label in axes.get_yticklabels()] == list("abcde")


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="`weight` must be 0 or more, got -1"):
        CoTuning(weight=-1)
