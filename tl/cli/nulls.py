"""Options that are ``null`` although they have no such value; jsonargparse checks none of these."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args, get_type_hints

from jsonargparse import Namespace


def check_nulls(value: object, key: str, kind: object = None) -> None:
    """Refuse ``null`` for options of classes, at any depth, whose type does not include it.

    Args:
        value: Part of a parsed configuration.
        key: Its name.
        kind: Its type, as far as it is known.

    Raises:
        ValueError: If there is such an option, naming it.
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
    """Return what a class path names, or ``None`` where nothing is."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None)
    except (ImportError, ValueError):
        return None  # whoever builds it says so


def _options(kind: object) -> dict[str, tuple[Any, Any]]:
    """Return default (``None`` where there is none) and type of a class's options."""
    if not isinstance(kind, type):
        return {}
    init: Any = getattr(kind, "__init__")  # noqa: B009 - of the class, whichever defines it
    try:
        hints = get_type_hints(kind if dataclasses.is_dataclass(kind) else init)
        parameters = inspect.signature(kind).parameters
    except (NameError, TypeError, ValueError, AttributeError):
        return {}  # annotations that mean nothing at run time
    return {
        name: (None if parameter.default is parameter.empty else parameter.default, hints[name])
        for name, parameter in parameters.items()
        if name in hints
    }


def _accepts_null(hint: object) -> bool:
    return hint in (Any, object, None, NoneType) or any(map(_accepts_null, get_args(hint)))
