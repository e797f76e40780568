from __future__ import annotations

from pathlib import Path

import pytest

from tl.study.merging import argument, hash_of, merged, value_at


def test_files_and_options_are_merged_in_order(tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text("x: 1")
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    a.write_text("data: part.yaml\nmodel: {size: 1, layers: [1]}\n")
    b.write_text("model: {size: 2, layers+: [2]}\n")
    found = merged([str(a), str(b)], {"model.depth.of": 3})
    assert found == {"data": {"x": 1}, "model": {"size": 2, "layers": [1, 2], "depth": {"of": 3}}}
    assert value_at(found, "model.depth.of") == 3
    assert value_at(found, "model.size.of") is None


def test_the_hash_is_of_what_the_run_is() -> None:
    one = {"name": "a", "data": {"init_args": {"root": "x", "seed": 0}}}
    moved = {"name": "b", "data": {"init_args": {"root": "y", "seed": 0}}}
    other = {"name": "a", "data": {"init_args": {"root": "x", "seed": 1}}}
    assert hash_of(one) == hash_of(moved) != hash_of(other)
    assert hash_of(one, needs=["a"]) != hash_of(one)
    assert one["name"] == "a"  # untouched


def test_a_wrong_configuration_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("[")
    with pytest.raises(ValueError, match=r"\A[^\n]*a\.yaml: cannot be read[^\n]*\Z"):
        merged([str(tmp_path / "a.yaml")], {})
    (tmp_path / "a.yaml").write_text("- 1")
    with pytest.raises(ValueError, match="must be a mapping of options"):
        merged([str(tmp_path / "a.yaml")], {})


def test_options_are_written_for_the_command_line() -> None:
    assert argument("a", None) == "--a=null"
    assert argument("a", [1, "b"]) == '--a=[1, "b"]'
    assert argument("a", "b") == "--a=b"
    assert argument("a", True) == "--a=true"
