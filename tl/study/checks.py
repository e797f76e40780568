"""Checks of a study file that say what was found and what was expected."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast


def mapping_of(content: object, where: str) -> dict[str, Any]:
    """Return a mapping, or say that it is none."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} must be a mapping, got {json.dumps(content, default=str)}.")  # noqa: TRY004
    return dict(content)


def texts_of(content: object, where: str, *, empty: bool = False) -> tuple[str, ...]:
    """Return texts, or say that they are none."""
    valid = isinstance(content, list | tuple) and all(isinstance(x, str) for x in content)
    if not valid or not (content or empty):
        raise ValueError(
            f"{where} must be a list of texts, got {json.dumps(content, default=str)}."
        )
    return tuple(cast("list[str]", content))


def check_known(part: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    """Refuse a key that is not one of those known."""
    if unknown := [name for name in part if name not in names]:
        raise ValueError(f"{where} has no {unknown[0]!r}; it has {listed(names)}.")


def check_file(path: str, where: str) -> None:
    """Refuse a file that is not there."""
    if not Path(path).is_file():
        raise ValueError(f"{where} names {path}, and there is no such file.")


def key_of(value: object) -> str:
    """Write a plain value as a text that tells it from every other one, 1 from 1.0 and true too."""
    return json.dumps(value, sort_keys=True, default=str)


def is_among(value: object, values: Iterable[object]) -> bool:
    """Tell whether a plain value is one of several, 1 being neither 1.0 nor true."""
    return key_of(value) in map(key_of, values)


def check_once(names: Sequence[str], where: str) -> None:
    """Refuse a name that is there twice."""
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{where} names {twice[0]!r} twice.")


def options_of(content: object, where: str) -> dict[str, Any]:
    """Return options by dotted name, or say what is none."""
    options = mapping_of(content, where)
    for name, value in options.items():
        if not isinstance(name, str):
            raise ValueError(f"{where} must name options, got {name!r}.")  # noqa: TRY004
        check_plain(value, f"{where}: {name}")
    return options


def check_plain(value: object, where: str) -> None:
    """Refuse what a command line cannot take, as a date, and names that are no texts."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            if not isinstance(name, str):
                raise ValueError(f"{where} must name options, got {name!r}.")  # noqa: TRY004
            check_plain(part, where)
    elif isinstance(value, list):
        for part in value:
            check_plain(part, where)
    elif not isinstance(value, str | int | float | None):
        raise ValueError(  # noqa: TRY004
            f"{where} is {value}, which YAML reads as {type(value).__name__}; put it in quotes."
        )


def varied(vary: Mapping[str, Any]) -> str:
    """Say what varies."""
    return f"it varies {listed(vary)}" if vary else "it varies nothing"


def listed(names: Sequence[Any] | Mapping[Any, Any]) -> str:
    """Join names."""
    return ", ".join(map(str, names)) or "none"
