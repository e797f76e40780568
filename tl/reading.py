"""Read untrusted files: refuse pipes, which would block, and bound the size of YAML."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import yaml

from tl.checkpoints.nesting import check_nesting

_MOST_VALUES = 100_000


def check_regular(path: str | Path) -> None:
    """Refuse a pipe, a socket or a device, which may never end; a missing file passes.

    Raises:
        ValueError: If it is one.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a string that is not a path passes too
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ValueError(f"{path} is a pipe or a device, not a regular file")


def read_text(path: Path) -> str:
    """Read a regular file in UTF-8.

    Raises:
        ValueError: If it is a pipe or a device.
        OSError: If it cannot be read.
    """
    check_regular(path)
    return path.read_text(encoding="utf-8")


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty where there is none or it cannot be read."""
    try:
        found = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def versions_in(folder: Path, holding: str = "") -> list[Path]:
    """Return the folders ``version_N`` in a folder in the order of N.

    Args:
        folder: The folder.
        holding: Only those with a file of this name.
    """
    numbered = {
        int(number): path
        for path in folder.glob("version_*")
        if (number := path.name.removeprefix("version_")).isascii() and number.isdecimal()
    }
    return [
        numbered[n] for n in sorted(numbered) if not holding or (numbered[n] / holding).exists()
    ]


def _check_names(root: yaml.Node | None) -> None:
    """Refuse a mapping with the same name twice, of which all but the last would be lost.

    Raises:
        yaml.YAMLError: If there is one. What ``<<`` merges may have the names of the mapping.
    """
    nodes, known = [] if root is None else [root], set[int]()
    while nodes:
        node = nodes.pop()
        if id(node) in known:
            continue
        known.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        if not isinstance(node, yaml.MappingNode):
            continue
        names: set[tuple[str, str]] = set()
        for key, value in node.value:
            nodes += (key, value)
            if not isinstance(key, yaml.ScalarNode) or key.tag.endswith(":merge"):
                continue
            if (key.tag, key.value) in names:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value!r} appears twice", problem_mark=key.start_mark
                )
            names.add((key.tag, key.value))


def read_yaml(path: Path) -> Any:  # noqa: ANN401 - any YAML value
    """Read a regular file of plain types.

    Raises:
        ValueError: If it is a pipe or a device, or its aliases expand too far.
        OSError: If it cannot be read.
        yaml.YAMLError: If it is not valid YAML, or a mapping has a name twice.
    """
    text = read_text(path)
    try:
        loader = yaml.SafeLoader(text)
        loader.name = str(path)  # for what is said of a line
        try:
            root = loader.get_single_node()
            _check_names(root)
            found = None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    check_nesting(found, most=_MOST_VALUES)
    return found


def yaml_or_text(text: str) -> Any:  # noqa: ANN401 - any YAML value
    """Return the value of an option; text that is not YAML is returned as it is."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text  # the parser reports it


def bound_aliases() -> None:
    """Make the parser refuse YAML whose aliases expand too far, in fragments and options too."""
    from jsonargparse import get_loader, set_loader  # noqa: PLC0415 - reports need no parser

    load = get_loader("yaml")
    if getattr(load, "__module__", None) == __name__:
        return  # already installed

    def bounded(text: str) -> Any:  # noqa: ANN401 - any YAML value
        found = load(text)
        check_nesting(found, most=_MOST_VALUES)
        return found

    set_loader("yaml", bounded, (yaml.YAMLError,))


def shown(path: str | Path) -> str:
    """Return a path for display: relative if below the working directory, else absolute."""
    relative = os.path.relpath(path)
    above = relative == os.pardir or relative.startswith(os.pardir + os.sep)
    return os.path.abspath(path) if above else relative  # noqa: PTH100 - links are not resolved
