from __future__ import annotations

from tl.checkpoints.errors import CheckpointError, first_line, listed


def test_names_are_joined_and_what_a_terminal_would_obey_is_escaped() -> None:
    assert listed(["a", "b\x1b", "c"], limit=2) == "a, 'b\\x1b', ..."
    assert listed([]) == ""


def test_a_librarys_message_is_cut_to_a_line() -> None:
    assert first_line(KeyError("a\nb")) == "KeyError: 'a\\nb'"
    assert first_line(ValueError("x" * 200 + "\nmore")) == f"ValueError: {'x' * 100}"
    assert issubclass(CheckpointError, ValueError)  # a mistake of the user's, not of the program
