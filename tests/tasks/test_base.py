from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

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


@pytest.mark.parametrize("name", ["", "a/b", "a.b", "_a", "a b", "ä"])
def test_names_that_would_break_metric_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        Classification(name, 2)


@pytest.mark.parametrize("count", [-1, 0, 1])
def test_a_classification_has_two_sides(count: int) -> None:
    with pytest.raises(ValueError, match=f"'a' needs at least 2 classes, got {count}"):
        Classification("a", count)


@dataclass(frozen=True, init=False)
class Rate(Regression):
    """A regression with another loss, whose author names no kind."""

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target).exp().mean()


def test_a_class_of_ones_own_comes_back_as_itself() -> None:
    assert Rate("a").record()["kind"] == "Rate"
    assert isinstance(as_task(Rate("a", 2).record()), Rate)
    assert type(Rate("a").read_from("x")) is Rate
    # the private class of several labels stays what it was
    assert Classification("a", 2, multi_label=True).record()["kind"] == "classification"


def test_several_labels_need_the_class_itself() -> None:
    @dataclass(frozen=True)
    class Mine(Classification):
        kind: ClassVar[str] = "test_mine"

    assert Mine("a", 2).num_classes == 2
    with pytest.raises(ValueError, match=r"'a' is a Mine, .* needs tl\.tasks\.Classification"):
        Mine("a", 2, multi_label=True)


def test_outputs_of_another_shape_are_not_broadcast() -> None:
    with pytest.raises(ValueError, match=r"'a' returns shape \(4, 1\); expected \(4, 2\)"):
        Regression("a", 2).loss(torch.zeros(4, 1), torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"shape \(4, 5\); expected logits of shape \(N, 3\)"):
        Classification("a", 3).loss(torch.zeros(4, 5), torch.zeros(4, dtype=torch.int64))
