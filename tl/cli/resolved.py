"""The configuration that ``tl fit`` would run, without building anything."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from enum import Enum
from typing import Any

import yaml

from tl.cli.command import TlCLI
from tl.cli.configuration import write_enums_as_text
from tl.cli.nulls import imported
from tl.cli.running import quiet
from tl.data.options import constructors_of
from tl.private.deferred import import_lightly
from tl.reading import bound_aliases

VERB = "fit"
#: Why a run changes what was given, by key.
_REASONS = {"trainer.precision": "this machine", "data.init_args.seed": "seed_everything"}
_OF_A_METRIC = "direction of its metric"


class ResolvedConfiguration(TlCLI):
    """Parses and completes the configuration of ``tl fit`` as a run does, and stops there.

    Attributes:
        found: The configuration in plain types.
        defaults: Default values by dotted key; those of the Trainer and of ours.
        derived: Why a value is not the one that was given, by dotted key.
        variables: Names of environment variables that set a value, by dotted key.
    """

    def __init__(self, arguments: list[str]) -> None:
        """Parse a command.

        Args:
            arguments: ``fit`` and its options, without short forms.
        """
        import_lightly()
        quiet()
        write_enums_as_text()
        bound_aliases()
        self.found: dict[str, Any] = {}
        self.derived: dict[str, str] = {}
        self._given: dict[str, Any] = {}
        super().__init__(arguments)
        parser = self._parser(VERB)
        self.defaults = flat(self._plain(parser.get_defaults()))
        self.variables = self._variables() if parser.default_env else {}

    def _variables(self) -> dict[str, str]:
        """Return the environment variables of values that are not defaults."""
        usual = {**class_defaults(self.found), **self.defaults}
        found = {}
        for key, value in flat(self.found).items():
            parts = key.split(".init_args")[0].split(".")
            ends = [parts[:end] for end in range(len(parts), 0, -1)]
            names = [f"{self.parser.env_prefix}_{VERB}__{'__'.join(end)}".upper() for end in ends]
            files = [f"{self.parser.env_prefix}_{VERB}__config".upper()]
            named = [name for name in [*names, *files] if name in os.environ]
            if named and value != usual.get(key, ...):
                found[key] = named[0]
        return found

    def complete(self, given: Any) -> None:  # noqa: ANN401 - as the parser has it
        """Remember what was given before other settings decide the rest."""
        self._given = flat(self._plain(self.config[VERB]))
        super().complete(given)

    def before_instantiate_classes(self) -> None:
        """Resolve what a run resolves, without its folder and checkpoint."""
        self.settle()
        self.found = self._plain(self.chosen)
        self.derived = {
            key: _REASONS.get(key, _OF_A_METRIC)
            for key, value in flat(self.found).items()
            if value != self._given.get(key)
        }

    def instantiate_classes(self) -> None:
        """Build nothing."""

    def _set_seed(self) -> None:
        """Leave the random state alone."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""

    def _plain(self, config: Any) -> dict[str, Any]:  # noqa: ANN401 - jsonargparse's namespace
        text = self._parser(VERB).dump(config, skip_unset=False, skip_validation=True)
        found: dict[str, Any] = yaml.safe_load(text)
        return found


def flat(found: object, prefix: str = "") -> dict[str, Any]:
    """Return the values of a configuration by dotted key; items of lists by number."""
    parts: Mapping[str, Any]
    if isinstance(found, Mapping) and found:
        parts = found
    elif isinstance(found, list) and any(isinstance(item, Mapping) for item in found):
        parts = {str(number): item for number, item in enumerate(found)}
    else:
        return {prefix.rstrip("."): found}
    return {k: v for name, part in parts.items() for k, v in flat(part, f"{prefix}{name}.").items()}


def sections_of(found: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of a configuration that hold options."""
    for name, part in found.items():
        if isinstance(part, Mapping):
            yield f"{prefix}{name}"
            yield from sections_of(part, f"{prefix}{name}.")


def class_defaults(found: object, prefix: str = "") -> dict[str, Any]:
    """Return the defaults of the classes in a configuration, flat, by dotted key."""
    defaults: dict[str, Any] = {}
    if isinstance(found, list):
        found = {str(number): item for number, item in enumerate(found)}
    if not isinstance(found, Mapping):
        return defaults
    if isinstance(path := found.get("class_path"), str):
        for name, value in _arguments(imported(path)).items():
            defaults |= flat(value, f"{prefix}init_args.{name}.")
    for name, part in found.items():
        defaults |= class_defaults(part, f"{prefix}{name}.")
    return defaults


def _arguments(kind: object) -> dict[str, Any]:
    """Return the defaults of a class's arguments, with those that it passes on by keyword."""
    found: dict[str, Any] = {}
    for constructor in constructors_of(kind) if isinstance(kind, type) else ():
        given = inspect.signature(constructor).parameters.values()
        known = {p.name: _plain_value(p.default) for p in given if p.default is not p.empty}
        found = {**known, **found}
    return found


def _plain_value(value: Any) -> Any:  # noqa: ANN401 - any default
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value
