"""What a test of a library's private names does: say by name which is gone."""

from __future__ import annotations

import importlib

import pytest


def find(owner: object, path: str, library: str) -> object:
    """Follow a dotted path from an object, or from a module's name, or fail with what is gone."""
    where = owner if isinstance(owner, str) else type(owner).__name__
    found = importlib.import_module(owner) if isinstance(owner, str) else owner
    for name in path.split("."):
        where += f".{name}"
        if not hasattr(found, name):
            pytest.fail(f"{library}'s {where} is gone")
        found = getattr(found, name)
    return found


def has_inherited(table: dict[type, tuple[str, ...]], library: str, *made: object) -> None:
    """Find what subclasses of ours use of their bases; some attributes only objects have."""
    for kind, names in table.items():
        owners = [kind, *(one for one in made if isinstance(one, kind))]
        for name in names:
            if not any(hasattr(one, name) for one in owners):
                pytest.fail(f"{library}'s {kind.__name__}.{name} is gone")
