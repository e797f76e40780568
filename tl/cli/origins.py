"""Where the values of a configuration come from: files, the command line, the environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tl.reading import read_yaml, yaml_or_text

COMMAND_LINE = "command line"
_CONFIGS = ("--config", "-c")
_UNNAMED = ("init_args", "class_path")  # parts of a key that short forms leave out


class Origins:
    """What each source of a configuration sets, in the order in which sources override.

    Args:
        sections: Keys that hold options; a file may stand in place of each, as ``data: a.yaml``.

    Attributes:
        sources: Sources by name, the later ones override the earlier ones.
    """

    def __init__(self, sections: Iterable[str] = ("data", "model", "trainer")) -> None:
        self.sources: list[str] = []
        self._sections = {_canonical(key) for key in sections}
        self._settings: dict[str, list[tuple[str, Any]]] = {}
        self._lengths: dict[str, int] = {}  # of lists, which `key+` extends

    @classmethod
    def of_command(
        cls,
        arguments: Sequence[str],
        names: Mapping[str, str],
        sections: Iterable[str] = ("data", "model", "trainer"),
    ) -> Origins:
        """Read a command.

        Args:
            arguments: The verb and its options, without short forms.
            names: Names of sources by what stands for them after ``--config=``; others are known
                by their path, or are part of the command line.
            sections: As for the class.
        """
        origins = cls(sections)
        words = list(arguments[1:])
        while words:
            option, equals, text = words.pop(0).partition("=")
            if not option.startswith("-"):
                continue
            if not equals and words and not words[0].startswith("--"):
                text = words.pop(0)
            if option in _CONFIGS:
                origins.add_configuration(text, names)
            else:
                origins.add({option.lstrip("-"): yaml_or_text(text)}, COMMAND_LINE)
        return origins

    def add_configuration(self, text: str, names: Mapping[str, str]) -> None:
        """Record what follows ``--config=``.

        Args:
            text: A path, an address, or a configuration as JSON.
            names: As in `of_command`.
        """
        name = names.get(text)
        if text.lstrip().startswith("{"):
            self.add(yaml_or_text(text), name or COMMAND_LINE)
        elif "://" not in text:
            self.add(read_yaml(Path(text)), name or text, Path(text).parent)
        else:
            self.sources.append(name or text)  # the parser reads it

    def add(self, found: Mapping[str, Any], source: str, folder: Path = Path()) -> None:
        """Record what a source sets.

        Args:
            found: Its content.
            source: Its name.
            folder: Where the files lie that it names in place of a section.
        """
        if source not in self.sources:
            self.sources.append(source)
        for key, value in found.items():
            self._add(key, value, source, folder)

    def of(self, key: str) -> list[tuple[str, Any]]:
        """Return the sources that set a key, and their values; the last one decides."""
        return self._settings.get(_canonical(key), [])

    def _add(self, key: str, value: Any, source: str, folder: Path) -> None:  # noqa: ANN401
        name = _canonical(key.removesuffix("+"))
        if isinstance(value, Mapping) and value:
            for part, below in value.items():
                self._add(f"{key}.{part}", below, source, folder)
            return
        if name in self._sections and (fragment := _fragment(value, folder)) is not None:
            self.add({key: read_yaml(fragment)}, str(fragment), fragment.parent)
            return
        if key.endswith("+"):
            items = value if isinstance(value, list) else [value]
            start = self._lengths.get(name, 0)
        elif isinstance(value, list):
            self._forget_below(name)
            items, start = value, 0
        else:
            if value is None:
                self._forget_below(name)
            self._settings.setdefault(self._in_last_item(name), []).append((source, value))
            return
        self._settings.setdefault(name, []).append((source, value))
        for number, item in enumerate(items, start):
            self._lengths[name] = number + 1
            self._add(f"{name}.{number}", item, source, folder)

    def _in_last_item(self, name: str) -> str:
        """Return a key whose part after a list is an item's: the command line omits the last."""
        for start, length in self._lengths.items():
            rest = name.removeprefix(f"{start}.")
            if rest != name and not rest.partition(".")[0].isdecimal():
                return f"{start}.{length - 1}.{rest}"
        return name

    def _forget_below(self, name: str) -> None:
        for known in [known for known in self._settings if known.startswith(f"{name}.")]:
            del self._settings[known]
        self._lengths.pop(name, None)


def _canonical(key: str) -> str:
    """Return a key as short forms have it: ``model.backbone`` for its class path."""
    return ".".join(part for part in key.split(".") if part not in _UNNAMED)


def _fragment(value: object, folder: Path) -> Path | None:
    """Return the file that stands for a section, relative to the one that names it."""
    if not isinstance(value, str) or not value.endswith((".yaml", ".yml", ".json")):
        return None
    path = folder / value
    return path if path.is_file() else None
