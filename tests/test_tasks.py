from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from tl import Task
from tl.tasks import as_task


def test_a_task_survives_as_plain_types() -> None:
    task = Task("cifar100_fine", 100, source="cifar100", target="fine")
    assert Task(**asdict(task)) == task
    assert as_task(asdict(task)) == as_task(task) == task
    assert replace(task, source=None) != task


@pytest.mark.parametrize("name", ["", "a/b", "a.b", "_a", "a b", "ä"])
def test_names_that_would_break_metric_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        Task(name, 2)


@pytest.mark.parametrize("count", [-1, 0, 1])
def test_a_classification_has_two_sides(count: int) -> None:
    with pytest.raises(ValueError, match=f"'a' needs at least 2 classes, got {count}"):
        Task("a", count)
