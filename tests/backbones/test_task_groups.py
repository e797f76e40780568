from __future__ import annotations

import pytest
import torch
from torch import nn

from tl import Classification, MultiTaskModule
from tl.backbones import ResNet20, TaskGroups
from tl.backbones.base import stages_of

TASKS = [Classification(name, 3, target=name) for name in "abc"]


def module(groups: list[list[str]]) -> MultiTaskModule:
    torch.manual_seed(0)
    return MultiTaskModule(TaskGroups(ResNet20(), groups), TASKS)


def test_a_loss_reaches_the_network_of_its_group_alone() -> None:
    ours = module([["a", "c"], ["b"]])
    batch = (torch.randn(4, 3, 16, 16), {name: torch.arange(4) % 3 for name in "abc"})
    losses, _ = ours.task_losses(batch)
    losses["b"].backward()  # type: ignore[no-untyped-call]
    backbone = ours.backbone
    assert isinstance(backbone, TaskGroups)
    first, second = backbone.networks()
    assert all(p.grad is None for p in first.parameters())
    assert all(p.grad is not None for p in second.parameters())
    counted = [p for parts in stages_of(backbone).values() for m in parts for p in m.parameters()]
    assert len(counted) == len(set(counted)) == len(list(backbone.parameters()))


def test_one_group_is_the_network_itself() -> None:
    grouped = module([["a", "b", "c"]])
    torch.manual_seed(0)
    plain = MultiTaskModule(ResNet20(), TASKS)
    images = torch.randn(2, 3, 16, 16)
    for each in (grouped, plain):
        each.eval()
    grouped.heads.load_state_dict(plain.heads.state_dict())
    found, wanted = grouped(images), plain(images)
    for name in "abc":
        torch.testing.assert_close(found[name], wanted[name])


def test_networks_start_alike_and_mistakes_are_said() -> None:
    first, second = TaskGroups(ResNet20(), [["a"], ["b"]]).networks()
    assert torch.equal(first.state_dict()["conv1.weight"], second.state_dict()["conv1.weight"])
    with pytest.raises(ValueError, match="must be lists of tasks, each task in one group"):
        TaskGroups(ResNet20(), [["a"], ["a"]])
    with pytest.raises(ValueError, match="must be lists of tasks"):
        TaskGroups(ResNet20(), [["a"], []])
    with pytest.raises(ValueError, match="hold the tasks a, b, and the run trains a, b, c"):
        module([["a"], ["b"]])
    with pytest.raises(ValueError, match="TaskGroups is built over one of our residual networks"):
        TaskGroups(nn.Linear(1, 1), [["a"]])
