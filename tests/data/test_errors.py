from __future__ import annotations

from tl.data.errors import DataError, listed, one_line


def test_a_few_names_are_all_listed() -> None:
    assert listed([]) == ""
    assert listed(["a"]) == "a"
    assert listed([str(i) for i in range(20)]).endswith("18, 19")


def test_many_names_end_in_a_count() -> None:
    names = [f"n{i}" for i in range(45)]
    assert listed(names) == ", ".join(names[:20]) + " and 25 more"
    assert listed(names, most=1) == "n0 and 44 more"


def test_a_data_error_is_a_value_error_and_keeps_its_message() -> None:
    error = DataError("no such folder")
    assert isinstance(error, ValueError)  # callers that know nothing of it can catch it
    assert str(error) == "no such folder"


def test_a_message_of_several_lines_becomes_one() -> None:
    assert one_line(OSError("redirected\nfor ever:\n  Found")) == "redirected for ever: Found"
    assert one_line(TimeoutError()) == "TimeoutError"
