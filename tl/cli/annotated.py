"""YAML whose lines say where their values come from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import yaml

WIDTH = 100
_WIDEST = 60  # longer lines do not move the column of the comments


@dataclass(frozen=True)
class Note:
    """Where a value comes from.

    Args:
        text: The comment.
        is_set: Whether a user set it; values that are not may be left out.
        more: What it overrides, for lines with space left.
    """

    text: str
    is_set: bool
    more: str = ""


@dataclass(frozen=True)
class _Line:
    text: str
    note: Note | None = None


def annotated(
    found: Mapping[str, Any], note_of: Callable[[str, Any], Note], *, whole: bool
) -> tuple[str, int]:
    """Return a configuration as YAML with a comment on each value.

    Args:
        found: Plain types.
        note_of: Returns the note of a value, by its dotted key.
        whole: Also the values that nobody set.

    Returns:
        The text, and how many values it leaves out.
    """
    left_out: list[str] = []
    lines = list(_section(found, "", "", note_of, None if whole else left_out))
    column = max((len(line.text) for line in lines if len(line.text) <= _WIDEST), default=0) + 2
    return "".join(f"{text}\n" for line in lines for text in _written(line, column)), len(left_out)


def short_names(paths: list[str]) -> dict[str, str]:
    """Return the shortest ends of paths that tell them apart, by path."""
    found = {}
    for path in paths:
        parts = PurePath(path).parts
        ends = [str(PurePath(*parts[start:])) for start in range(len(parts) - 1, -1, -1)]
        others = [PurePath(other) for other in paths if other != path]
        found[path] = next(
            (end for end in ends if not any(_ends_in(other, end) for other in others)), path
        )
    return found


def _ends_in(path: PurePath, end: str) -> bool:
    parts = PurePath(end).parts
    return path.parts[-len(parts) :] == parts


def _written(line: _Line, column: int) -> Iterator[str]:
    if line.note is None:
        yield line.text
        return
    for note in (f"{line.note.text}{line.note.more}", line.note.text):
        whole = f"{line.text:{column - 2}}  # {note}"
        if len(whole) <= WIDTH:
            yield whole
            return
    indent = len(line.text) - len(line.text.lstrip(" -"))
    yield f"{' ' * indent}# {line.note.text}"
    yield line.text


def _section(
    found: Mapping[str, Any],
    prefix: str,
    indent: str,
    note_of: Callable[[str, Any], Note],
    left_out: list[str] | None,
) -> Iterator[_Line]:
    """Yield the lines of a map; ``left_out`` collects the keys of values that nobody set."""
    for name, value in found.items():
        key = f"{prefix}{name}"
        leaves = list(_leaves(key, value))
        # a class is part of the options that are set in it
        decide = _leaves(prefix.rstrip("."), found) if name == "class_path" else leaves
        if left_out is not None and not any(note_of(*leaf).is_set for leaf in decide):
            left_out += [leaf for leaf, _ in leaves]
            continue
        start = f"{indent}{_scalar(name)}:"
        if isinstance(value, Mapping) and value:
            yield _Line(start)
            yield from _section(value, f"{key}.", f"{indent}  ", note_of, left_out)
        elif _is_list_of_maps(value):
            yield _Line(start)
            for number, item in enumerate(value):
                yield from _item(item, f"{key}.{number}", indent, note_of, left_out)
        else:
            yield from _leaf(start, indent, value, note_of(key, value))


def _item(
    item: object,
    key: str,
    indent: str,
    note_of: Callable[[str, Any], Note],
    left_out: list[str] | None,
) -> Iterator[_Line]:
    """Yield the lines of an item of a list; none is left out, as their number counts."""
    if not isinstance(item, Mapping) or not item:
        yield _Line(f"{indent}- {_scalar(item)}", note_of(key, item))
        return
    own: list[str] | None = None if left_out is None or "class_path" not in item else []
    lines = list(_section(item, f"{key}.", f"{indent}  ", note_of, own))
    if not lines:  # an item of which nothing is set
        lines = [_Line(f"{indent}  class_path: {_scalar(item['class_path'])}")]
        own = [name for name in own or [] if name != f"{key}.class_path"]
    if left_out is not None:
        left_out += own or []
    first = lines[0]
    yield _Line(f"{indent}- {first.text.lstrip()}", first.note)
    yield from lines[1:]


def _leaf(start: str, indent: str, value: object, note: Note) -> Iterator[_Line]:
    text = f"{start} {_scalar(value)}"
    if isinstance(value, list) and len(text) > WIDTH:
        yield _Line(start, note)
        for item in value:
            yield _Line(f"{indent}- {_scalar(item)}")
        return
    yield _Line(text, note)


def _is_list_of_maps(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(item, Mapping) for item in value)


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any YAML value
    """Yield keys and values of what has no parts."""
    if isinstance(value, Mapping) and value:
        for name, part in value.items():
            yield from _leaves(f"{key}.{name}", part)
    elif _is_list_of_maps(value):
        for number, item in enumerate(value):
            yield from _leaves(f"{key}.{number}", item)
    else:
        yield key, value


def _scalar(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    text = str(text).removesuffix("\n").removesuffix("\n...")
    return json.dumps(value) if "\n" in text else text  # YAML reads JSON
