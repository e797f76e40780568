from __future__ import annotations

import torch
from torch import nn

from tl.tasks.two_views.projector import Projector, mlp


def test_layers_are_those_named() -> None:
    kinds = [type(layer) for layer in mlp(4, 6, 6, 5)]
    hidden = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert kinds == [*hidden, *hidden, nn.Linear]


def test_batch_norm_averages_over_both_views_or_over_each() -> None:
    torch.manual_seed(0)
    net = mlp(3, 4, 2)
    views = torch.cat([torch.randn(5, 3), 10 + torch.randn(5, 3)])
    both, each = Projector(net, "one")(views), Projector(net, "two")(views)
    assert torch.equal(both, net(views))
    assert torch.equal(each, torch.cat([net(views[:5]), net(views[5:])]))
    assert not torch.allclose(both, each)
    evaluated = Projector(net, "one").eval(), Projector(net, "two").eval()
    assert torch.equal(*(projector(views) for projector in evaluated))
