"""The configuration of a run as its files and options give it, and the hash of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tl.reading import read_yaml

# where a run and its data lie, and how the data are read: not what the run is
FREE = (
    *("name", "log_dir", "resume", "data.init_args.root", "data.init_args.num_workers"),
    "data.init_args.download",
)


def merged(configs: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Merge configuration files and options; a later one wins, ``name+`` adds to a list.

    A value that names a YAML file beside the configuration stands for that file's content.

    Raises:
        ValueError: If a file cannot be read or is not a mapping.
    """
    found: dict[str, Any] = {}
    for config in configs:
        try:
            content = read_yaml(Path(config))
        except (OSError, yaml.YAMLError, ValueError) as error:
            raise ValueError(f"{config}: cannot be read: {' '.join(str(error).split())}") from None
        if not isinstance(content, Mapping):
            raise ValueError(f"{config}: must be a mapping of options, as a run's configuration.")  # noqa: TRY004
        _merge(found, _with_fragments(content, Path(config).parent))
    for key, value in options.items():
        _set(found, key.split("."), value)
    return found


def hash_of(configuration: Mapping[str, Any], **more: Any) -> str:  # noqa: ANN401 - plain types
    """Hash what a run is: 64 hexadecimal digits.

    Args:
        configuration: As :func:`merged` gives it. Where the run and its data lie does not count.
        more: What else the run depends on, in plain types.
    """
    kept = json.loads(json.dumps(configuration, default=str))
    for key in FREE:
        *path, last = key.split(".")
        place: Any = kept
        for part in path:
            place = place.get(part) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.pop(last, None)
    text = json.dumps([kept, more], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def argument(key: str, value: Any) -> str:  # noqa: ANN401 - whatever YAML holds
    """Write an option as the command line takes it."""
    return f"--{key}={value if isinstance(value, str) else json.dumps(value)}"


def value_at(configuration: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401 - as found
    """Return the value of a dotted name; ``None`` where there is none."""
    place: Any = configuration
    for part in key.split("."):
        place = place.get(part) if isinstance(place, Mapping) else None
    return place


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        key = str(name)
        if key.endswith("+"):
            key, added = key[:-1], value if isinstance(value, list) else [value]
            value = [*(into.get(key) or []), *added]  # noqa: PLW2901
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = json.loads(json.dumps(value, default=str))


def _set(into: dict[str, Any], path: Sequence[str], value: object) -> None:
    for part in path[:-1]:
        if not isinstance(into.get(part), dict):
            into[part] = {}
        into = into[part]
    _merge(into, {path[-1]: value})


def _with_fragments(value: Any, folder: Path) -> Any:  # noqa: ANN401 - whatever YAML holds
    if isinstance(value, Mapping):
        return {name: _with_fragments(part, folder) for name, part in value.items()}
    if isinstance(value, list):
        return [_with_fragments(part, folder) for part in value]
    if isinstance(value, str) and value.endswith((".yaml", ".yml")):
        for path in (folder / value, Path(value)):
            if path.is_file():
                return _with_fragments(read_yaml(path), path.parent)
    return value
