"""Refuse ``null`` for options that do not accept it, which jsonargparse does not check."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args, get_type_hints

from jsonargparse import Namespace

from tl.data.options import constructors_of


def check_nulls(value: object, key: str, kind: object = None) -> None:
    """Refuse ``null`` for class options, at any depth, whose type excludes it.

    Args:
        value: Part of a parsed configuration.
        key: Its name.
        kind: Its type, if known.

    Raises:
        ValueError: If there is such an option; names it.
    """
    if isinstance(value, list):
        for number, part in enumerate(value):
            check_nulls(part, f"{key}.{number}")
    if not isinstance(value, Namespace | Mapping):
        return
    parts = dict(vars(value) if isinstance(value, Namespace) else value)
    if "class_path" in parts:
        kind, key = imported(str(parts["class_path"])), f"{key}.init_args"
        given = parts.get("init_args") or {}
        parts = dict(vars(given) if isinstance(given, Namespace) else given)
    else:
        kind = next((one for one in (kind, *get_args(kind)) if dataclasses.is_dataclass(one)), None)
    options = _options(kind)
    for name, part in parts.items():
        default, hint = options.get(name, (None, None))
        if part is None and default is not None and not _accepts_null(hint):
            raise ValueError(f"`{key}.{name}` cannot be null; its default is {default!r}.")
        check_nulls(part, f"{key}.{name}", hint)


def imported(path: str) -> object:
    """Return the class of a class path; ``None`` if it does not exist."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except (ImportError, ValueError):
        return None  # building it reports the error


def _options(kind: object) -> dict[str, tuple[Any, Any]]:
    """Return default (``None`` if there is none) and type of a class's options."""
    if not isinstance(kind, type):
        return {}
    try:
        hints = get_type_hints(kind) if dataclasses.is_dataclass(kind) else _hints(kind)
        parameters = inspect.signature(kind).parameters
    except (NameError, TypeError, ValueError, AttributeError):
        return {}  # annotations that cannot be resolved at run time
    return {
        name: (None if parameter.default is parameter.empty else parameter.default, hints[name])
        for name, parameter in parameters.items()
        if name in hints
    }


def _hints(kind: type) -> dict[str, Any]:
    """Return the types of a constructor's arguments, with those that it passes on by keyword."""
    hints: dict[str, Any] = {}
    for constructor in constructors_of(kind):
        hints = {**get_type_hints(constructor), **hints}
    return hints


def _accepts_null(hint: object) -> bool:
    return hint in (Any, object, None, NoneType) or any(map(_accepts_null, get_args(hint)))
