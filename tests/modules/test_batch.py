from __future__ import annotations

import pytest
import torch

from tl import Task
from tl.modules.batch import by_source, labels_of, source_of


def test_batches_are_sorted_by_source() -> None:
    part = (torch.zeros(1, 3, 2, 2), torch.zeros(1))
    assert set(by_source(part)) == {None}
    assert set(by_source({"a": part, "b": None})) == {"a"}


def test_a_task_finds_its_part_and_its_labels() -> None:
    part = (torch.zeros(1, 3, 2, 2), torch.zeros(1))
    assert source_of(Task("a", 2, source="x"), {None: part}) is None
    assert source_of(Task("a", 2), {"x": part}) == "x"
    assert source_of(Task("a", 2, source="y"), {"x": part}) == "y"
    both = {"fine": torch.tensor([3]), "coarse": torch.tensor([1])}
    assert labels_of(Task("a", 5, target="coarse"), both).item() == 1
    with pytest.raises(ValueError, match="'a' reads the target 'other'"):
        labels_of(Task("a", 5, target="other"), both)
