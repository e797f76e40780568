"""Columns as targets."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tl import Classification, Regression
from tl.data.errors import DataError
from tl.data.text.table import Table
from tl.data.text.targets import Kind, find_class_names, make_task, read_target, target_kinds


def table(cells: list[Any]) -> Table:
    return Table({"y": cells}, range(2, 2 + len(cells)), "a.csv")


def test_kinds_are_named_or_are_classes() -> None:
    assert target_kinds(None) == {}
    assert target_kinds("y") == {"y": "class"}
    assert target_kinds(["y", "z"]) == {"y": "class", "z": "class"}
    assert target_kinds({"y": "number"}) == {"y": "number"}
    with pytest.raises(ValueError, match=r"`targets\['y'\]` must be one of class, number, labels"):
        target_kinds({"y": "numbers"})


def test_a_list_is_not_one_class() -> None:
    for cell in (["a", "b"], {"a": 1}):
        with pytest.raises(DataError, match=r"a\.csv, line 3 holds a \w+ \(y\).*\{y: labels\}"):
            find_class_names(table(["a", cell]), "y", "class")


@pytest.mark.parametrize(
    ("cells", "kind", "said"),
    [
        (["a|b", "b"], "labels", r"1 label of the column y, such as 'a\|b', may hold several"),
        (["a,b", "b,c"], "labels", "2 labels of the column y, such as 'a,b', may hold several"),
        (["0.5", "-1", "2"], "class", r"the 3 numbers .* such as 0\.5, .*\{y: number\}"),
    ],
)
def test_what_may_be_another_kind_is_named(cells: list[Any], kind: Kind, said: str) -> None:
    with pytest.warns(UserWarning, match=said):
        find_class_names(table(cells), "y", kind)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [(["a;b", "b,c"], "labels"), (["1", "2.0"], "class"), (["0.5", "x"], "class"), ([""], "class")],
)
def test_other_labels_are_taken_as_they_are(
    cells: list[Any], kind: Kind, recwarn: pytest.WarningsRecorder
) -> None:
    find_class_names(table(cells), "y", kind)
    assert not recwarn.list


def test_nan_in_json_is_a_missing_class() -> None:
    cells = table(["a", float("nan"), "b"])
    assert find_class_names(cells, "y", "class") == ("a", "b")
    assert read_target(cells, "y", "class", ("a", "b")).tolist() == [0, -1, 1]


def test_classes_are_sorted_names() -> None:
    cells = table(["dog", " cat ", "dog", ""])
    names = find_class_names(cells, "y", "class")
    assert names == ("cat", "dog")
    assert read_target(cells, "y", "class", names).tolist() == [1, 0, 1, -1]
    task = make_task("animal", "class", names, None)
    assert task == Classification("animal", 2)


@pytest.mark.parametrize("kind", ["class", "labels"])
def test_a_whole_number_is_one_label_however_json_writes_it(kind: Kind) -> None:
    both = [1, [1.0], 1.0, "2.5"] if kind == "labels" else [1, 1.0, 2.5]
    assert find_class_names(table(both), "y", kind) == ("1", "2.5")


def test_null_in_a_list_is_not_a_label() -> None:
    cells = table([["a", None], [float("nan")], None, ["b"]])
    assert find_class_names(cells, "y", "labels") == ("a", "b")
    found = read_target(cells, "y", "labels", ("a", "b"))
    assert found[:2].tolist() == [[1, 0], [0, 0]]
    assert found[2].isnan().all()


def test_numbers_of_jsonl_are_class_names_too() -> None:
    cells = table([3, 1, None])
    names = find_class_names(cells, "y", "class")
    assert names == ("1", "3")
    assert read_target(cells, "y", "class", names).tolist() == [1, 0, -1]


def test_several_labels_come_in_a_cell_or_a_list() -> None:
    cells = table(["a; b", "", ["c", "a"], None])
    names = find_class_names(cells, "y", "labels")
    assert names == ("a", "b", "c")
    found = read_target(cells, "y", "labels", names)
    assert found[:3].tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 1]]
    assert found[3].isnan().all()
    task = make_task("tags", "labels", names, "y")
    assert isinstance(task, Classification)
    assert task.multi_label


def test_numbers_may_be_missing() -> None:
    found = read_target(table(["1.5", "", -2, None]), "y", "number", ())
    assert found.dtype is torch.float32
    torch.testing.assert_close(
        found, torch.tensor([1.5, torch.nan, -2.0, torch.nan]), equal_nan=True
    )
    assert make_task("score", "number", (), "y") == Regression("score", target="y")


def test_what_is_wrong_names_line_and_label() -> None:
    with pytest.raises(DataError, match=r"a\.csv, line 3 has 'high' where a number is expected"):
        read_target(table(["1", "high"]), "y", "number", ())
    with pytest.raises(DataError, match=r"line 2 has 'inf' where a number is expected"):
        read_target(table(["inf", "1"]), "y", "number", ())
    said = r"line 3 has the label 'cow' \(y\), which the training split lacks; so have 1 of 2 rows"
    with pytest.raises(DataError, match=said):
        read_target(table(["cat", "cow"]), "y", "class", ("cat", "dog"))
    with pytest.raises(DataError, match="has 1 class in the training split"):
        make_task("animal", "class", ("cat",), None)
