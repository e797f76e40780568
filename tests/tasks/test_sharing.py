"""Tasks that use another's head, and tasks that are evaluated only."""

from __future__ import annotations

from typing import Any

import pytest

from tl.tasks import (
    BinaryMap,
    Classification,
    Depth,
    MaskedTokens,
    Normals,
    Regression,
    Segmentation,
    Task,
    as_task,
    by_name,
    deciding_score,
    owners,
    with_relations,
)

SOURCE = Classification("a", 3)


def test_a_head_is_found_by_way_of_others() -> None:
    tasks = by_name(
        [
            SOURCE,
            Classification("b", 3, shares="a"),
            Classification("c", 3, shares="b", trains=False),
        ]
    )
    assert owners(tasks) == {"a": "a", "b": "a", "c": "a"}


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        (
            [SOURCE, Classification("b", 3, shares="z")],
            "'b' shares the head of 'z', which is not a task; the tasks are a, b.",
        ),
        ([Classification("a", 3, shares="a")], "in a circle: a -> a."),
        (
            [Classification("a", 3, shares="b"), Classification("b", 3, shares="a")],
            "in a circle: a -> b -> a.",
        ),
        (
            [SOURCE, Classification("b", 4, shares="a", trains=False)],
            "'b' gives 4 classes from the backbone's vector and shares the head of 'a', which",
        ),
        ([SOURCE, Regression("b", 3, shares="a")], "'b' gives 3 numbers"),
        ([Classification("a", 3, trains=False)], "No task trains: a have `trains: false`"),
        (
            [SOURCE, Classification("b", 3, trains=False)],
            "'b' has `trains: false` and a head of its own, which nothing would train",
        ),
    ],
)
def test_what_cannot_be_shared_is_one_line(tasks: list[Task], said: str) -> None:
    with pytest.raises(ValueError, match=r"shar|train") as found:
        owners(by_name(tasks))
    assert said in str(found.value)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "task",
    [
        Classification("b", 3, shares="a", trains=False),
        Classification("b", 3, multi_label=True, shares="a"),
        Regression("b", shares="a", trains=False),
    ],
)
def test_records_keep_both_and_leave_out_what_is_usual(task: Any) -> None:
    record = task.record()
    assert record["shares"] == "a"
    assert record.get("trains", True) == task.trains
    assert as_task(record) == task
    assert as_task(record).trains == task.trains
    assert task.read_from("s").shares == "a"
    assert not {"shares", "trains"} & {*SOURCE.record(), *Regression("b").record()}


def test_what_does_not_train_decides_nothing() -> None:
    other = Regression("b", trains=False)
    assert deciding_score([SOURCE, other]) == ("acc", True)


def test_tasks_of_data_are_related_by_name() -> None:
    other = Classification("b", 3, source="s", target="t")
    found = with_relations([SOURCE, other], {"b": "a"}, {"b": False})
    assert found[0] is SOURCE
    assert found[1].record() == {**other.record(), "shares": "a", "trains": False}
    assert with_relations([SOURCE, other], {}, {}) == (SOURCE, other)


@pytest.mark.parametrize(
    ("shares", "trains", "said"),
    [
        ({"c": "a"}, {}, "`shares` names 'c', which is not a task of the data; they define a, b."),
        ({"b": "c"}, {}, "`shares` names 'c', which is not a task of the data; they define a, b."),
        ({}, {"c": False}, "`trains` names 'c', which is not"),
        ({}, {"a": False, "b": False}, "`trains` is false for every task of the data"),
    ],
)
def test_a_relation_of_an_unknown_task_is_one_line(
    shares: dict[str, str], trains: dict[str, bool], said: str
) -> None:
    with pytest.raises(ValueError, match=r"shares|trains") as found:
        with_relations([SOURCE, Classification("b", 3)], shares, trains)
    assert said in str(found.value)


@pytest.mark.parametrize(
    "task",
    [
        Classification("a", 3),
        Classification("a", 3, multi_label=True),
        Regression("a"),
        Segmentation("a", 3),
        Depth("a"),
        Normals("a"),
        BinaryMap("a"),
        MaskedTokens("a", 50),
    ],
    ids=lambda task: task.answers,
)
def test_every_kind_can_share_a_head_and_be_evaluated_only(task: Task) -> None:
    record = task.record()
    assert not record.keys() & {"shares", "trains"}  # as before tasks had them
    other = as_task({**record, "name": "b"})
    _, found = with_relations([task, other], {"b": "a"}, {"b": False})
    assert (found.shares, found.trains) == ("a", False)
    assert type(found) is type(task)
    assert as_task(found.record()) == found
    assert owners(by_name([task, found])) == {"a": "a", "b": "a"}


def test_trains_is_true_or_false() -> None:
    wrong: Any = {"a": "no"}
    with pytest.raises(ValueError, match="`trains` must be true or false for 'a', got 'no'"):
        with_relations([SOURCE], {}, wrong)
