"""Sources are read-only, checked, and owned by one data module."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tl.data import GeneratedDataModule, MultiTaskDataModule


def test_sources_change_as_a_whole() -> None:
    given: dict[str, Any] = {"a": GeneratedDataModule(train_size=100)}
    data, other = MultiTaskDataModule(sources=given, batch_size=8), GeneratedDataModule()
    with pytest.raises(
        TypeError, match=r"must be assigned as a whole.*`data.sources = \{\*\*data.sources, 'c"
    ):
        data.sources["c"] = other  # type: ignore[index]
    given["c"] = other  # the caller's own
    assert [task.name for task in data.tasks] == ["a"]
    assert list(copy.deepcopy(data).sources) == ["a"]
    data.sources = {**data.sources, "c": other}
    assert [task.name for task in data.tasks] == ["a", "c"]
    assert other.settings.batch_size == 8


def test_what_is_no_source_is_refused() -> None:
    one, data = GeneratedDataModule(), MultiTaskDataModule(sources={"a": GeneratedDataModule()})
    for wrong, error, said in (
        ({"a": one, "b": one}, ValueError, "One data module has two names .*: a, b;"),
        ([one], TypeError, "`sources` must be a mapping of data modules by name, got a list"),
        ({"a": data}, TypeError, r"`sources\['a'\]` must be .*, got a MultiTaskDataModule"),
    ):
        given: Any = wrong
        with pytest.raises(error, match=said):
            MultiTaskDataModule(sources=given)
        with pytest.raises(error, match=said):
            data.sources = given
    assert list(data.sources) == ["a"]


def test_a_source_is_not_renamed_by_a_second_data_module() -> None:
    source = GeneratedDataModule(train_size=100, test_size=20)
    first = MultiTaskDataModule(sources={"one": source})
    with pytest.raises(ValueError, match=r"`sources\['two'\]` is 'one' of another MultiTask"):
        MultiTaskDataModule(sources={"two": source})
    assert [task.name for task in first.tasks] == ["one"]
    again = MultiTaskDataModule(sources={"one": source})
    again.sources = {"one": source}
    first.sources = {"one": source}
