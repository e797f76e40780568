"""Mistakes that people make in a configuration, drawn from a seed."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

Place = tuple[str | int, ...]
Mistake = tuple[str, str]

# of a huge number of these a machine has not enough memory or processes
COUNTS = {"generated_size", "num_workers", "batch_size", "eval_batch_size", "padding", "images"}


def mutate(configuration: dict[str, Any], rng: random.Random, folder: Path) -> Mistake:
    """Make one mistake.

    Args:
        configuration: A sound one; left as it is.
        rng: Draws the mistake and its place.
        folder: Where a file may be written.

    Returns:
        What was done, and the YAML text with the mistake in it.
    """
    tree = copy.deepcopy(configuration)
    at = rng.randrange(len(KINDS) + 1)
    return wrong_file(tree, rng, folder) if at == len(KINDS) else KINDS[at](tree, rng)


def _misspell(word: str, rng: random.Random) -> str:
    at = rng.randrange(len(word))
    ways = (
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
        word[:at] + "x" + word[at:],
    )
    return rng.choice(ways) or "x"


def _places(tree: Any, path: Place = ()) -> Iterator[Place]:
    """All keys and positions, outermost first."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*path, key))


def _owner(tree: Any, path: Place) -> Any:
    for key in path[:-1]:
        tree = tree[key]
    return tree


def _said(what: str, path: Place, tree: dict[str, Any]) -> Mistake:
    return f"{what} at {'.'.join(map(str, path))}", yaml.safe_dump(tree, sort_keys=False)


def misspelt_key(tree: dict[str, Any], rng: random.Random) -> Mistake:
    path = rng.choice([p for p in _places(tree) if isinstance(p[-1], str)])
    owner = _owner(tree, path)
    key = _misspell(str(path[-1]), rng)
    items = {key if name == path[-1] else name: value for name, value in owner.items()}
    owner.clear()
    owner.update(items)
    return _said(f"key {key}", path, tree)


def wrong_type(tree: dict[str, Any], rng: random.Random) -> Mistake:
    path = rng.choice(list(_places(tree)))
    values: tuple[Any, ...] = ("text", "", [1, 2], [], {"a": 1}, {}, True, 3.7, None, -1)
    value = rng.choice(values)
    _owner(tree, path)[path[-1]] = value
    return _said(f"{value!r}", path, tree)


def out_of_range(tree: dict[str, Any], rng: random.Random) -> Mistake:
    numbers = [p for p in _places(tree) if isinstance(_owner(tree, p)[p[-1]], int | float)]
    path = rng.choice(numbers)
    values = [-1, 0, -(10**12), float("nan"), float("inf"), 1e-30, 2]
    if path[-1] not in COUNTS:
        values += [10**6, 1e30]
    value = rng.choice(values)
    _owner(tree, path)[path[-1]] = value
    return _said(f"{value!r}", path, tree)


def misspelt_choice(tree: dict[str, Any], rng: random.Random) -> Mistake:
    texts = [p for p in _places(tree) if isinstance(_owner(tree, p)[p[-1]], str)]
    path = rng.choice([p for p in texts if _owner(tree, p)[p[-1]]])
    owner = _owner(tree, path)
    owner[path[-1]] = _misspell(owner[path[-1]], rng)
    return _said(f"{owner[path[-1]]!r}", path, tree)


def other_class(tree: dict[str, Any], rng: random.Random) -> Mistake:
    path = rng.choice([p for p in _places(tree) if p[-1] == "class_path"])
    value = rng.choice(("torch.nn.Identity", "pathlib.Path", "tl.transfer", "torch.optim.Adam"))
    _owner(tree, path)[path[-1]] = value
    return _said(f"class {value}", path, tree)


def dropped(tree: dict[str, Any], rng: random.Random) -> Mistake:
    path = rng.choice(list(_places(tree)))
    del _owner(tree, path)[path[-1]]
    return _said("dropped", path, tree)


def listed(tree: dict[str, Any], rng: random.Random) -> Mistake:
    path = rng.choice(list(_places(tree)))
    owner = _owner(tree, path)
    owner[path[-1]] = [owner[path[-1]]]
    return _said("in a list", path, tree)


def doubled(tree: dict[str, Any], rng: random.Random) -> Mistake:
    """A section stands twice, as when a source is copied and not renamed."""
    path = rng.choice([p for p in _places(tree) if isinstance(_owner(tree, p)[p[-1]], dict)])
    what, text = _said("twice", path, tree)
    key = f"{path[-1]}:"
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.strip() == key)
    depth = len(lines[at]) - len(lines[at].lstrip())
    end = at + 1
    while end < len(lines) and len(lines[end]) - len(lines[end].lstrip()) > depth:
        end += 1
    return what, "\n".join([*lines[:end], *lines[at:end], *lines[end:]]) + "\n"


def one_level_up(tree: dict[str, Any], rng: random.Random) -> Mistake:
    path = rng.choice([p for p in _places(tree) if len(p) > 1 and isinstance(p[-2], str)])
    value = _owner(tree, path).pop(path[-1])
    _owner(tree, path[:-1])[str(path[-1])] = value
    return _said("one level up", path, tree)


def broken_syntax(tree: dict[str, Any], rng: random.Random) -> Mistake:
    text = yaml.safe_dump(tree, sort_keys=False)
    at = rng.randrange(len(text))
    bad = rng.choice(("\t", ":", "{", "]", "'", "- ", "&", "*", "!", "%", "\x00", "é", "\n"))
    return f"{bad!r} at {at}", text[:at] + bad + text[at:]


def cut_short(tree: dict[str, Any], rng: random.Random) -> Mistake:
    text = yaml.safe_dump(tree, sort_keys=False)
    at = rng.randrange(len(text))
    return f"cut at {at}", text[:at]


def wrong_file(tree: dict[str, Any], rng: random.Random, folder: Path) -> Mistake:
    """A section or a checkpoint is a file that is not there, or is something else."""
    places: list[Place] = [("data",), ("model",), ("trainer",), ("model", "init_args", "init_from")]
    path = rng.choice(places)
    name = rng.choice(("missing", "empty", "damaged", "folder"))
    file = folder / f"{name}.{'ckpt' if len(path) > 1 else 'yaml'}"
    if name == "folder":
        file.mkdir()
    elif name != "missing":
        file.write_bytes(b"" if name == "empty" else rng.randbytes(300))
    _owner(tree, path)[path[-1]] = str(file)
    return _said(f"file {file.name}", path, tree)


KINDS: tuple[Callable[[dict[str, Any], random.Random], Mistake], ...] = (
    *(misspelt_key, wrong_type, out_of_range, misspelt_choice, other_class, dropped, listed),
    *(doubled, one_level_up, broken_syntax, cut_short),
)
