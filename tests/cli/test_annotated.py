from __future__ import annotations

from typing import Any

import yaml

from tl.cli.annotated import Note, annotated, short_names

FOUND = {
    "name": "a",
    "list": [1, 2],
    "trainer": {"epochs": 3, "other": None},
    "model": {"class_path": "x.M", "init_args": {"lr": 1e-5, "text": "yes: no"}},
    "callbacks": [{"class_path": "x.A"}, {"class_path": "x.B", "init_args": {"n": 1, "m": 2}}],
    "untouched": {"class_path": "x.U", "init_args": {"k": 1}},
}
SET = {"name", "model.init_args.lr", "callbacks.1.init_args.n"}


def note_of(key: str, value: Any) -> Note:
    del value
    return Note("a.yaml", is_set=True) if key in SET else Note("default", is_set=False)


def test_it_is_yaml_with_a_comment_on_each_value() -> None:
    text, left_out = annotated(FOUND, note_of, whole=True)
    assert yaml.safe_load(text) == FOUND
    assert left_out == 0
    values = [line for line in text.splitlines() if not line.endswith(":")]
    assert all(line.endswith(("# a.yaml", "# default")) for line in values)
    assert len({line.index("#") for line in values}) == 1


def test_values_that_nobody_set_are_left_out_and_counted() -> None:
    text, left_out = annotated(FOUND, note_of, whole=False)
    assert yaml.safe_load(text) == {
        "name": "a",
        "model": {"class_path": "x.M", "init_args": {"lr": 1e-5}},
        "callbacks": [{"class_path": "x.A"}, {"class_path": "x.B", "init_args": {"n": 1}}],
    }
    assert left_out == 7


def test_long_lines_have_the_comment_above() -> None:
    def noted(key: str, value: Any) -> Note:
        del key, value
        return Note("a.yaml", is_set=True, more=f", over {'x' * 90} in b.yaml")

    text, _ = annotated({"a": {"long": "y" * 90, "short": 1}}, noted, whole=True)
    assert text.splitlines() == [
        "a:",
        "  # a.yaml",
        f"  long: {'y' * 90}",
        "  short: 1  # a.yaml",
    ]


def test_names_are_as_short_as_they_can_be() -> None:
    paths = ["configs/a.yaml", "configs/x/b.yaml", "configs/y/b.yaml", "usual recipe"]
    assert list(short_names(paths).values()) == ["a.yaml", "x/b.yaml", "y/b.yaml", "usual recipe"]
