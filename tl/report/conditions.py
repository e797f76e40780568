"""What was unusual about a run's last test: adapted, under shifts, on a part, of another file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def conditions_of_test(results: Mapping[str, Any], split: str = "test") -> dict[str, str]:
    """Return how the scores of a test differ from those of a run's best checkpoint on its own data.

    Args:
        results: Content of a run's ``results.json``.
        split: ``val`` for a validation of the finished run.

    Returns:
        Under ``adaptation``, ``shift``, ``samples`` and ``checkpoint``, in words, what applies.
    """
    found: dict[str, str] = {}
    tested = _mapping(_mapping(results.get("evaluated")).get(split))
    if adapted := [_with_options(each) for each in tested.get("adaptation") or ()]:
        found["adaptation"] = ", ".join(adapted)
    trained, data = _mapping(results.get("data")), _mapping(tested.get("data"))
    shifts = [
        (name, shift)
        for name, source in data.items()
        if (shift := _mapping(source).get("shift")) != _mapping(trained.get(name)).get("shift")
    ]
    if shifts:
        found["shift"] = ", ".join(
            f"{name} {_shift(shift)}" if len(data) > 1 else _shift(shift) for name, shift in shifts
        )
    parts = {
        task: f"{count['from']} of {count['of']}"
        for task, count in _mapping(tested.get("samples")).items()
        if count and count.get("of") is not None and count["from"] != count["of"]
    }
    if parts:
        found["samples"] = ", ".join(
            f"{task} {part}" if len(parts) > 1 else part for task, part in parts.items()
        )
    best, file = _mapping(results.get("best")).get("checkpoint"), tested.get("checkpoint")
    if best and file and PurePath(best) != PurePath(file):
        found["checkpoint"] = str(file)
    return found


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _with_options(adaptation: Mapping[str, Any]) -> str:
    options = [f"{key} {value}" for key, value in adaptation.items() if key != "name"]
    return f"{adaptation.get('name')}" + (f" ({', '.join(options)})" if options else "")


def _shift(shift: object) -> str:
    return f"{shift.get('name')} {shift.get('severity')}" if isinstance(shift, Mapping) else "none"
