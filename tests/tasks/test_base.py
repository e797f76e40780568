from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from tl import Classification, Regression, Task
from tl.tasks import as_task


@pytest.mark.parametrize(
    "task",
    [
        Classification("cifar100_fine", 100, source="cifar100", target="fine"),
        Classification("a", 2, class_weights=[1, 2]),
        Classification("a", 3, multi_label=True, pos_weight=(1, 2, 3)),
        Regression("a", 3, loss="huber", target="b"),
    ],
)
def test_a_task_survives_as_plain_types(task: Task) -> None:
    assert as_task(task.record()) == as_task(task) == task
    assert as_task(task.record()).record() == task.record()
    assert task.read_from("x").source == "x"
    assert type(task.read_from("x")) is type(task)


def test_a_task_of_version_0_1_0_is_a_classification() -> None:
    old: Any = Task
    task = old("a", 100, source="b", target="fine")
    assert isinstance(task, Classification)
    assert task == Classification("a", 100, "b", "fine")
    assert as_task({"name": "a", "num_classes": 100, "source": "b", "target": "fine"}) == task
    assert old(**asdict(task)) == task
    assert replace(task, source=None) != task


def test_a_kind_that_this_version_does_not_know_is_named() -> None:
    with pytest.raises(ValueError, match=r"'a' is of the kind 'shadow', .* it knows .*regr"):
        as_task({"name": "a", "kind": "shadow"})


@pytest.mark.parametrize("name", ["", "a/b", "a.b", "_a", "a b", "ä"])
def test_names_that_would_break_metric_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        Classification(name, 2)


@pytest.mark.parametrize("count", [-1, 0, 1])
def test_a_classification_has_two_sides(count: int) -> None:
    with pytest.raises(ValueError, match=f"'a' needs at least 2 classes, got {count}"):
        Classification("a", count)
