"""Options of data sources: type checks and misspelt names."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "True or False"}


def checked_option(owner: type, name: str, value: Any) -> Any:  # noqa: ANN401 - any value
    """Return an option's value, converted to its annotated type.

    Numbers of other libraries become Python numbers, and paths become strings, so that checkpoints
    hold plain types. Only numbers, strings, choices and dataclasses are checked.

    Raises:
        TypeError: If it has the wrong type.
        ValueError: If it is not one of the choices.
    """
    kinds = _kinds(owner).get(name)
    if kinds is None or value is getattr(owner, name, ...):  # the default is right
        return value
    choices = [choice for kind in kinds for choice in get_args(kind)]
    for kind in kinds:
        if get_origin(kind) is Literal:
            if any(type(value) is type(choice) and value == choice for choice in choices):
                return value
        elif (found := _as(kind, value)) is not ...:
            return found
    others = [kind for kind in kinds if get_origin(kind) is not Literal and kind is not NoneType]
    named = (_WORDS.get(kind, f"of kind {kind.__name__}") for kind in others)
    words = [*map(repr, choices), *named]
    said = ", ".join(words[:-1]) + " or " + words[-1] if len(words) > 1 else words[0]
    raise (ValueError if choices else TypeError)(f"`{name}` must be {said}, got {value!r}.")


def check_options(owner: Any) -> None:  # noqa: ANN401 - any dataclass
    """Check the types of all options of a dataclass; see `checked_option`."""
    for field in fields(owner):
        value = checked_option(type(owner), field.name, getattr(owner, field.name))
        object.__setattr__(owner, field.name, value)


def refuse_misspelt(owner: object, name: str, options: Iterable[str]) -> None:
    """Refuse to set a new attribute whose name resembles an option.

    Private names are allowed, and so are those that the class has or annotates. Subclasses outside
    this package may set more: only near-identical names, such as ``batchsize``, are refused there.

    Raises:
        AttributeError: If it does; names the option.
    """
    known = (name in getattr(kind, "__annotations__", ()) for kind in type(owner).__mro__)
    if name.startswith("_") or hasattr(owner, name) or any(known):
        return
    cutoff = 0.8 if type(owner).__module__.startswith("tl.") else 0.9
    if close := difflib.get_close_matches(name, list(options), n=1, cutoff=cutoff):
        raise AttributeError(
            f"{type(owner).__name__} has no option {name!r}. Did you mean {close[0]!r}? (A "
            "subclass may define an attribute of that name by annotating it in its class.)"
        )


def arguments_of(kind: type[Any]) -> dict[str, inspect.Parameter]:
    """Return the arguments of a constructor, with those that it passes on by keyword."""
    found: dict[str, inspect.Parameter] = {}
    for constructor in constructors_of(kind):
        given = inspect.signature(constructor).parameters
        own = {n: p for n, p in given.items() if p.kind is not p.VAR_KEYWORD and n != "self"}
        if found:
            own = {name: p for name, p in own.items() if p.kind is p.KEYWORD_ONLY}
        found |= {name: p for name, p in own.items() if name not in found}
    return found


def constructors_of(kind: type[Any]) -> Iterator[Callable[..., None]]:
    """Yield a class's constructor, and those that it passes arguments on to by keyword."""
    for each in kind.__mro__:
        if "__init__" in vars(each):
            constructor = vars(each)["__init__"]
            yield constructor
            given = inspect.signature(constructor).parameters.values()
            if all(p.kind is not p.VAR_KEYWORD for p in given):
                return


def _as(kind: Any, value: Any) -> Any:  # noqa: ANN401 - any value
    """Return a value converted to a type; ``...`` if it has another type."""
    if isinstance(value, bool):
        return value if kind is bool else ...
    if kind in (int, float) and isinstance(value, Integral):
        return int(value)
    if kind is float and isinstance(value, Real):
        return float(value)
    if kind is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    return value if kind not in (int, float) and isinstance(value, kind) else ...


@cache
def _kinds(owner: type) -> dict[str, tuple[Any, ...]]:
    """Return the checkable types of the options, as members of unions."""
    try:
        hints = get_type_hints(owner)
    except (NameError, TypeError):  # of a class inside a function, or only for type checkers
        return {}
    found, plain = {}, (*_WORDS, NoneType)
    for name, hint in hints.items():
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        if all(
            kind in plain or get_origin(kind) is Literal or is_dataclass(kind) for kind in kinds
        ):
            found[name] = kinds
    return found
