from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.transfer.penalties.steps import checkpoint, network
from tl.checkpoints.files import CheckpointError
from tl.transfer.source import (
    load_heads,
    order_heads,
    read_head,
    read_heads,
)


def two_heads(path: Path) -> tuple[nn.ModuleDict, str]:
    backbone, _ = network()
    heads = nn.ModuleDict({"a": nn.Linear(4, 2), "b": nn.Linear(4, 3, bias=False)})
    return heads, checkpoint(path / "two.ckpt", backbone, heads, {"b": ["x", "y", "z"]})


def test_a_head_is_read_by_its_task(tmp_path: Path) -> None:
    heads, path = two_heads(tmp_path)
    a, b = read_head(path, "a"), read_head(path, "b")
    assert torch.equal(a.weight, heads["a"].get_parameter("weight"))
    assert a.bias is not None
    assert torch.equal(a.bias, heads["a"].get_parameter("bias"))
    assert a.class_names == ()
    assert (b.task, b.bias, b.class_names) == ("b", None, ("x", "y", "z"))


def test_which_of_several_must_be_said(tmp_path: Path) -> None:
    _, path = two_heads(tmp_path)
    with pytest.raises(ValueError, match=r"two\.ckpt: has heads for a, b; name one of them\.$"):
        read_head(path)
    with pytest.raises(ValueError, match=r"has heads for a, b; none of them is 'c'\.$"):
        read_head(path, "c", only=True)


def test_the_only_head_needs_no_name(tmp_path: Path) -> None:
    backbone, heads = network()
    path = checkpoint(tmp_path / "one.ckpt", backbone, heads)
    assert read_head(path).task == "task"
    assert read_head(path, "other", only=True).task == "task"
    with pytest.raises(ValueError, match=r"has heads for task; none of them is 'other'"):
        read_head(path, "other")


def test_a_checkpoint_without_a_head(tmp_path: Path) -> None:
    backbone, _ = network()
    path = checkpoint(tmp_path / "bare.ckpt", backbone, nn.ModuleDict())
    with pytest.raises(ValueError, match=r"bare\.ckpt: has no head .*backbone\.conv\.weight"):
        read_head(path)
    with pytest.raises(CheckpointError):
        read_head(tmp_path / "missing.ckpt")


def test_heads_of_known_tasks_are_filled_and_new_ones_stay(tmp_path: Path) -> None:
    heads, path = two_heads(tmp_path)
    mine = nn.ModuleDict({"new": nn.Linear(4, 5), "a": nn.Linear(4, 2), "b": nn.Linear(4, 3)})
    new, b_bias = (mine[t].get_parameter(n).clone() for t, n in (("new", "weight"), ("b", "bias")))
    assert list(load_heads(mine, path)) == ["a", "b"]
    for task, name in (("a", "weight"), ("a", "bias"), ("b", "weight")):
        assert torch.equal(mine[task].get_parameter(name), heads[task].get_parameter(name))
    assert torch.equal(mine["new"].get_parameter("weight"), new)
    assert torch.equal(mine["b"].get_parameter("bias"), b_bias)  # the source's has none


def test_heads_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    _, path = two_heads(tmp_path)
    mine = nn.ModuleDict({"a": nn.Linear(4, 2), "b": nn.Linear(4, 7)})
    before = mine["a"].get_parameter("weight").clone()
    with pytest.raises(ValueError, match="head of 'b' maps 4 features to 3 classes, here 4 to 7"):
        load_heads(mine, path)
    assert torch.equal(mine["a"].get_parameter("weight"), before)
    with pytest.raises(ValueError, match="has heads for a, b, but this run has the tasks other"):
        load_heads(nn.ModuleDict({"other": nn.Linear(4, 2)}), path)


def _named(path: Path, names: list[str], task: str = "t") -> Path:
    state = {f"heads.{task}.weight": torch.eye(3), f"heads.{task}.bias": torch.arange(3.0)}
    torch.save({"state_dict": state, "tl": {"class_names": {task: names}}}, path)
    return path


@pytest.mark.parametrize("task", ["t", "other"])
def test_rows_of_a_head_follow_the_names_of_the_classes(tmp_path: Path, task: str) -> None:
    heads = nn.ModuleDict({"t": nn.Linear(3, 3)})
    taken = load_heads(heads, _named(tmp_path / "a.ckpt", ["a", "b", "c"], task))
    there = {name: head.class_names for name, head in taken.items()}
    assert there == {"t": ("a", "b", "c")}
    assert order_heads(heads, there, {"t": ["c", "a", "b"]}) == ["t"]
    assert heads["t"].get_parameter("bias").tolist() == [2.0, 0.0, 1.0]
    assert torch.equal(heads["t"].get_parameter("weight"), torch.eye(3)[[2, 0, 1]])
    assert order_heads(heads, {"t": ["c", "a", "b"]}, {"t": ["c", "a", "b"]}) == []


def test_heads_of_other_classes_are_refused_with_both_lists(tmp_path: Path) -> None:
    heads = nn.ModuleDict({"t": nn.Linear(3, 3)})
    taken = load_heads(heads, _named(tmp_path / "a.ckpt", ["a", "b", "zebra"]))
    with pytest.raises(ValueError, match=r"the classes a, b, zebra, but the data have a, b, c"):
        order_heads(heads, {"t": taken["t"].class_names}, {"t": ["a", "b", "c"]})


def test_a_projector_is_no_head(tmp_path: Path) -> None:
    path = tmp_path / "views.ckpt"
    torch.save({"state_dict": {"heads.views.layers.0.weight": torch.zeros(2, 2)}}, path)
    with pytest.raises(ValueError, match="projector of a self-supervised task, does not"):
        read_heads(str(path))
