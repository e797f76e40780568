"""Tables are sequences of rows that read well as text and in a notebook."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from tl.report.frame import Table, as_frame


def table() -> Table:
    return Table([{"class": "cat", "f1": 0.51234}, {"class": "<dog>", "count": 7}])


def test_rows_and_columns() -> None:
    found = table()
    assert found.columns == ["class", "f1", "count"]
    assert found["count"] == [None, 7]
    assert (found[0]["class"], found[1:]["class"], len(found)) == ("cat", ["<dog>"], 2)
    with pytest.raises(KeyError, match="There is no column 'acc', only class, f1, count"):
        _ = found["acc"]


def test_text_is_aligned_and_html_escaped() -> None:
    assert repr(table()).splitlines() == [
        "class      f1  count",
        "cat    0.5123",
        "<dog>              7",
    ]
    assert "<td>&lt;dog&gt;</td><td></td><td>7</td>" in table()._repr_html_()
    assert repr(Table([], ["class"])) == "class"


def test_a_long_table_shows_its_ends() -> None:
    lines = repr(Table([{"n": n} for n in range(100)])).splitlines()
    assert (len(lines), lines[1].strip(), lines[31], lines[-1].strip()) == (62, "0", "...", "99")


def test_pandas_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Frames(ModuleType):
        @staticmethod
        def DataFrame(rows: Any, columns: Any) -> str:  # noqa: N802 - pandas' name
            made.extend([rows, columns])
            return "frame"

    monkeypatch.setitem(sys.modules, "pandas", Frames("pandas"))
    monkeypatch.setattr("tl.report.frame.find_spec", lambda _: object())
    assert as_frame(table()) == "frame"
    assert made[1] == ["class", "f1", "count"]


def test_without_pandas_the_table_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setattr("tl.report.frame.find_spec", lambda _: None)
    found = table()
    assert as_frame(found) is found
    with pytest.raises(ImportError, match="needs pandas; run `pip install pandas`"):
        found.to_pandas()


def test_it_is_written_as_markdown() -> None:
    table = Table([{"a|b": "x|y", "n": 0.25}, {"a|b": "z"}])
    assert table.markdown().splitlines() == [
        *(r"| a\|b | n |", "| --- | --- |", r"| x\|y | 0.25 |", "| z |  |")
    ]
