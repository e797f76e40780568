from __future__ import annotations

from tl.serving.readers import TensorReader


def test_readers_read_alike_only_where_they_say_so() -> None:
    one, other = TensorReader({}), TensorReader({})
    assert one.way == one.way != other.way
    assert one.form == other.form
