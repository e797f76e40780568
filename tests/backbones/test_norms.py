from __future__ import annotations

import pytest
from torch import nn

from tl.backbones.norms import runs_its_children
from tl.modules.batch_norm import BatchNormThen2d


def test_layers_that_only_run_their_children_are_known() -> None:
    layers = pytest.importorskip("timm.layers")
    assert runs_its_children(layers.BatchNormAct2d(2))
    assert runs_its_children(BatchNormThen2d(2))
    assert not runs_its_children(nn.BatchNorm2d(2))
    assert not runs_its_children(type("BatchNormAct2d", (nn.BatchNorm2d,), {})(2))
