from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tl
from tests.serving.test_exporting import saved
from tests.small import Tiny, multitask_module, two_sources
from tl.checkpoints.files import read_checkpoint
from tl.serving.graphs import Graphs
from tl.serving.program import ExportError


def test_sources_with_different_inputs_need_a_choice(tmp_path: Path) -> None:
    data = two_sources()
    path = saved(tmp_path, multitask_module(data), data)
    model = tl.load(path, backbone=Tiny())
    parts = read_checkpoint(path)["tl"]["data"]
    other = {**parts, "ten": {"shapes": {"train": {"": [5]}}, "statistics": {}}}
    with pytest.raises(ValueError, match=r"ten, hundred have different inputs.*`--source`"):
        Graphs(model, other)
    one = Graphs(model, other, source="hundred")
    inputs, answers = one.batch(2)
    assert isinstance(inputs, torch.Tensor)
    assert inputs.shape == (2, 32, 32, 3)
    assert {model.module.tasks[name].source for name in answers} == {"hundred"}
    torch.testing.assert_close(one.batch(2)[0], inputs)
    with pytest.raises(ExportError, match="does not describe its inputs"):
        Graphs(model, {}).pt2()
