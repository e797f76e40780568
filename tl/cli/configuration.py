"""Checks of configuration files and settings before anything is built."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from tl.cli.messages import did_you_mean, one_line
from tl.reading import check_regular, read_yaml, yaml_or_text

_OPTIONS = ("--config", "-c")
_LISTS = ("trainer.callbacks", "trainer.plugins")
_PROFILERS = ("simple", "advanced", "pytorch", "xla")  # defined inside Lightning's Trainer
_LENGTHS = {  # with one of these at 0, a run does nothing
    "fit": ("limit_train_batches", "max_epochs", "max_steps"),
    "validate": ("limit_val_batches",),
    "test": ("limit_test_batches",),
    "predict": ("limit_predict_batches",),
}
_HERE = "the command line"


def check_files(arguments: Sequence[str]) -> None:
    """Check that the configuration files of a command are readable.

    Raises:
        ValueError: If a file is missing, is not text or YAML, or holds no options, or if an option
            names a pipe.
    """
    lists: dict[str, tuple[list[str], str]] = {}
    for number, argument in enumerate(arguments):
        option, is_whole, value = argument.partition("=")
        check_regular(value if is_whole else argument)  # reading it would block
        if not is_whole:
            value = arguments[number + 1] if number + 1 < len(arguments) else ""
        key = option.removeprefix("--")
        if option in _OPTIONS and value and "://" not in value and value.lstrip()[:1] != "{":
            found = _check_file(Path(value))
            for fragment in found.values():
                if isinstance(fragment, str):
                    check_regular(Path(value).parent / fragment)
            replaced = _replaced(lists, found, value)
        elif option not in _OPTIONS and key.removesuffix("+") in (*_LISTS, *lists):
            replaced = _replaced(lists, _nested(key, value), _HERE)
        else:
            continue
        for line in replaced if os.environ.get("LOCAL_RANK", "0") == "0" else ():
            print(f"tl: {line}", file=sys.stderr)  # noqa: T201


def _nested(key: str, value: str) -> Any:  # noqa: ANN401 - whatever YAML holds
    """Return a command-line option as it would be in a file."""
    found = yaml_or_text(value)
    several = found if isinstance(found, list) else [found]
    found = [{"class_path": v} if isinstance(v, str) else v for v in several]
    for part in reversed(key.split(".")):
        found = {part: found}
    return found


def _replaced(lists: dict[str, tuple[list[str], str]], found: Any, path: str) -> list[str]:  # noqa: ANN401
    """Warn about lists of classes that a file replaces, and record those that it holds.

    Args:
        lists: Classes and file by key, from earlier files; updated with this one's.
        found: Content of the file.
        path: Its name.
    """
    lines = []
    for key, classes in _class_lists(found, ""):
        plain = key.removesuffix("+")
        before, where = lists.get(plain, ([], path))
        if key != plain:
            lists[plain] = ([*before, *classes], where if before else path)
            continue
        if gone := [name for name in before if name not in classes]:
            adds = f"--{plain}+=" if path == _HERE else f"{plain.rpartition('.')[2]}+:"
            lines.append(
                f"`{plain}` of {path} replaces {', '.join(gone)} from {where}; to append instead, "
                f"write `{adds}`."
            )
        lists[plain] = (classes, path)
    return lines


def _class_lists(found: Any, prefix: str) -> list[tuple[str, list[str]]]:  # noqa: ANN401
    """Return the lists of classes in a configuration, as class paths by key."""
    lists = []
    for name, value in found.items() if isinstance(found, dict) else ():
        key = f"{prefix}{name}"
        several = value if isinstance(value, list) else [value]
        classes = [v.get("class_path") if isinstance(v, dict) else v for v in several]
        of_callbacks = key.removesuffix("+") in _LISTS
        is_list = isinstance(value, list) and any(isinstance(v, dict) for v in value)
        if of_callbacks or (is_list and all(isinstance(c, str) for c in classes)):
            lists.append((key, [str(c) for c in classes if c is not None]))
        else:
            lists += _class_lists(value, f"{key}.")
    return lists


def _check_file(path: Path) -> Any:  # noqa: ANN401 - whatever YAML holds
    if path.is_dir():
        raise ValueError(f"--config {path} is a folder; give a file in it.")
    if not path.exists():
        near = [str(other) for other in path.parent.glob("*.y*ml")]
        raise ValueError(f"--config {path}: no such file.{did_you_mean(str(path), near)}")
    try:
        found = read_yaml(path)
    except UnicodeDecodeError:
        raise ValueError(f"--config {path} is not a text file.") from None
    except ValueError as error:
        raise ValueError(f"--config {path} is refused: {error}.") from None
    except OSError as error:
        raise ValueError(f"--config {path}: {error.strerror}.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = one_line(str(getattr(error, "problem", None) or error))
        raise ValueError(f"--config {path}{where} is not valid YAML: {problem}.") from None
    if found is None:
        raise ValueError(f"--config {path} is empty.")
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise ValueError(  # noqa: TRY004 - a setting, like the others
            f"--config {path} holds a {kind}; expected options by name, as `key: x`."
        )
    return found


def check_trainer(trainer: Any, verb: str = "fit") -> None:  # noqa: ANN401 - jsonargparse's namespace
    """Refuse Trainer settings that Lightning accepts silently or explains badly.

    Raises:
        ValueError: If there is one; names it.
    """
    accumulate = trainer.get("accumulate_grad_batches")
    if accumulate is not None and accumulate < 1:
        raise ValueError(f"`trainer.accumulate_grad_batches` must be 1 or more, got {accumulate}.")
    clip = trainer.get("gradient_clip_val")
    if clip is not None and not 0 <= clip < math.inf:
        raise ValueError(f"`trainer.gradient_clip_val` must be finite and 0 or more, got {clip}.")
    profiler = trainer.get("profiler")
    if isinstance(profiler, str) and profiler not in _PROFILERS:
        close = did_you_mean(profiler, _PROFILERS)
        raise ValueError(
            f"there is no profiler {profiler!r}; choose {', '.join(_PROFILERS)}, or give a class "
            f"path.{close}"
        )
    if trainer.get("barebones"):
        raise ValueError("`trainer.barebones` leaves no results; it is for benchmarks.")
    for name in _LENGTHS.get(verb, ()):
        if trainer.get(name) != 0:
            continue
        if verb == "fit":
            raise ValueError(
                f"`trainer.{name}` is 0: nothing would be trained. To only evaluate, use validate "
                "or test."
            )
        raise ValueError(
            f"`trainer.{name}` is 0: {verb} would read nothing. Remove it, or give a number or "
            "fraction of batches."
        )


def write_enums_as_text() -> None:
    """Let config.yaml hold the string enum members that Lightning uses as defaults."""
    yaml.SafeDumper.add_multi_representer(
        Enum, lambda dumper, member: dumper.represent_data(member.value)
    )
