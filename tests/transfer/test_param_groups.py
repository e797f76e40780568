from __future__ import annotations

import pytest
import torch
from torch import nn

from tl.backbones import ResNet20
from tl.heads import linear_head
from tl.transfer.param_groups import named_groups


def test_every_parameter_is_in_one_group_named_by_its_stage() -> None:
    backbone, heads = ResNet20(), nn.ModuleDict({"a": linear_head(64, 10)})
    groups = named_groups(backbone, heads)
    stages = ("stem", "layer1", "layer2", "layer3", "head")
    assert [g["name"] for g in groups] == [n for s in stages for n in (s, f"{s}_no_decay")]
    placed = [id(p) for group in groups for p in group["params"]]
    everything = {id(p) for module in (backbone, heads) for p in module.parameters()}
    assert len(placed) == len(set(placed))
    assert set(placed) == everything


def test_norms_and_biases_do_not_decay() -> None:
    heads = nn.ModuleDict({"a": linear_head(64, 10)})
    optimizer = torch.optim.SGD(named_groups(ResNet20(), heads), lr=0.1, weight_decay=1e-3)
    for group in optimizer.param_groups:
        small = all(p.ndim <= 1 for p in group["params"])
        assert small == group["name"].endswith("_no_decay")
        assert group["weight_decay"] == (0.0 if small else 1e-3)


def test_frozen_parameters_stand_in_their_groups_too() -> None:
    backbone, heads = ResNet20().requires_grad_(False), nn.ModuleDict()
    groups = named_groups(backbone, heads)
    assert sum(len(g["params"]) for g in groups) == len(list(backbone.parameters()))


def test_stages_that_overlap_or_leave_out_are_refused() -> None:
    class Net(nn.Module):
        def __init__(self, names: dict[str, list[str]]) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)
            self.names = names

        def stages(self) -> dict[str, list[nn.Module]]:
            return {k: [getattr(self, n) for n in v] for k, v in self.names.items()}

    with pytest.raises(ValueError, match="'top' holds a parameter"):
        named_groups(Net({"stem": ["a"], "top": ["a", "b"]}), nn.ModuleDict())
    with pytest.raises(ValueError, match=r"leaves out b\.weight, b\.bias"):
        named_groups(Net({"stem": ["a"]}), nn.ModuleDict())
