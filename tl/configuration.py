"""Configuration files and settings that can be checked before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from tl.messages import did_you_mean, one_line
from tl.nesting import check_nesting

_OPTIONS = ("--config", "-c")
_MOST_VALUES = 100_000


def check_files(arguments: Sequence[str]) -> None:
    """See that the configuration files of a command can be read.

    Args:
        arguments: The command's arguments.

    Raises:
        ValueError: If one is not there, is no text, no YAML, or holds no options; names it.
    """
    for number, argument in enumerate(arguments):
        option, is_whole, path = argument.partition("=")
        if option not in _OPTIONS:
            continue
        if not is_whole:
            path = arguments[number + 1] if number + 1 < len(arguments) else ""
        if path and "://" not in path and not path.lstrip().startswith("{"):
            _check_file(Path(path))


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ValueError(f"--config {path} is a folder; name a file in it.")
    if not path.exists():
        near = [str(other) for other in path.parent.glob("*.y*ml")]
        raise ValueError(f"--config {path}: no such file.{did_you_mean(str(path), near)}")
    try:
        found = yaml.safe_load(path.read_text())
        check_nesting(found, most=_MOST_VALUES)
    except UnicodeDecodeError:
        raise ValueError(f"--config {path} is not text, so it cannot be a configuration.") from None
    except ValueError as error:
        raise ValueError(f"--config {path} is refused: {error}.") from None
    except OSError as error:
        raise ValueError(f"--config {path}: {error.strerror}.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = one_line(str(getattr(error, "problem", None) or error))
        raise ValueError(f"--config {path}{where} is no YAML: {problem}.") from None
    if found is None:
        raise ValueError(f"--config {path} is empty.")
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise ValueError(  # noqa: TRY004 - a setting, as the others
            f"--config {path} holds a {kind}; expected options by name, as `key: x`."
        )


def check_trainer(trainer: Any) -> None:  # noqa: ANN401 - jsonargparse's namespace
    """Refuse settings of the Trainer that Lightning takes without a word, or explains badly.

    Args:
        trainer: Its settings.

    Raises:
        ValueError: If there is one; names it.
    """
    accumulate = trainer.get("accumulate_grad_batches")
    if accumulate is not None and accumulate < 1:
        raise ValueError(f"`trainer.accumulate_grad_batches` must be 1 or more, got {accumulate}.")
    clip = trainer.get("gradient_clip_val")
    if clip is not None and clip < 0:
        raise ValueError(f"`trainer.gradient_clip_val` must be 0 or more, got {clip}.")
    if trainer.get("barebones"):
        raise ValueError("`trainer.barebones` leaves no run to look at; it is for benchmarks.")
    for name in ("limit_train_batches", "max_epochs", "max_steps"):
        if trainer.get(name) == 0:
            raise ValueError(
                f"`trainer.{name}` is 0: nothing would be trained. To evaluate alone, use the verb "
                "validate or test."
            )


def write_enums_as_text() -> None:
    """Let config.yaml hold the members of text enumerations that Lightning has as defaults."""
    yaml.SafeDumper.add_multi_representer(
        Enum, lambda dumper, member: dumper.represent_data(member.value)
    )
