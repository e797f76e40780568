"""``results.json`` and ``config.yaml`` of a run, read and checked to be what a run writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tl.reading import read_text, read_yaml

#: What a run writes at its start if it resumes another: the key ``resumed_from`` alone.
RESUMED = "resumed.json"
_ANY = "*"  # every name
_LONGEST = 60  # letters of a value
_TEXT, _COUNT, _NUMBER, _OBJECT = str | None, int | None, float | int | None, {_ANY: object}
_METRICS = {_ANY: _NUMBER}
_DATA = {_ANY: object}  # a source describes itself as it likes
_SAMPLES = {_ANY: {"from": int, "of": _COUNT}}
# what the parts of the file are; a mapping or a list may be null, and other parts are not looked at
_SHAPE: dict[str, Any] = {
    "metrics": _METRICS,
    "scores": {_ANY: {_ANY: str}},
    "best": {"checkpoint": _TEXT, "monitor": _TEXT, "score": _NUMBER, "metrics": _METRICS},
    "epochs": _COUNT,
    "steps": _COUNT,
    "samples": {_ANY: _SAMPLES},
    "data": _DATA,
    "resumed_from": _TEXT,
    "seconds": _NUMBER,
    "images_per_second": _NUMBER,
    "mfu": _NUMBER,
    "peak_memory_bytes": _NUMBER,
    "evaluated": {
        _ANY: {
            "checkpoint": _TEXT,
            "metrics": _METRICS,
            "samples": _SAMPLES,
            "data": _DATA,
            "adaptation": [_OBJECT],
        }
    },
}


def read_results(path: Path) -> dict[str, Any]:
    """Return the content of a run's ``results.json``; nothing if the file is missing.

    Raises:
        ValueError: If it cannot be read, or holds what no run writes; with a line that names it.
    """
    try:
        found = json.loads(read_text(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}.") from None
    if fault := _fault(found, _SHAPE, ""):
        raise ValueError(
            f"{path} is damaged: {fault}. Restore it, or delete it and test the run again."
        )
    content: dict[str, Any] = found
    return content


def read_configuration(path: Path) -> dict[str, Any]:
    """Return the content of a run's ``config.yaml``; nothing if the file is missing.

    Raises:
        ValueError: If it cannot be read, or is not a mapping; with a line that names it.
    """
    try:
        found = read_yaml(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}.") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: it must be a mapping, got {shortened(found)}.")  # noqa: TRY004
    return found


def _fault(value: Any, shape: Any, name: str) -> str:  # noqa: ANN401 - whatever JSON holds
    """Say what is wrong with a value; empty where nothing is."""
    if not isinstance(shape, dict | list):
        return "" if isinstance(value, shape) else f"`{name}` cannot be {shortened(value)}"
    if value is None and name:
        return ""
    if not isinstance(value, type(shape)):
        kind = "mapping" if isinstance(shape, dict) else "list"
        return f"{f'`{name}`' if name else 'it'} must be a {kind}, got {shortened(value)}"
    found: Any = dict(enumerate(value)) if isinstance(value, list) else value
    if isinstance(shape, dict) and _ANY not in shape:
        parts = [(key, found.get(key), part) for key, part in shape.items()]
    else:
        every = shape[0] if isinstance(shape, list) else shape[_ANY]
        parts = [(key, part, every) for key, part in found.items()]
    faults = (_fault(part, of, f"{name}.{key}".lstrip(".")) for key, part, of in parts)
    return next((fault for fault in faults if fault), "")


def shortened(value: object) -> str:
    """Write a value in so few letters that it fits a line."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
