"""``tl show``: the configuration that a command would run, and where each value comes from."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tl.cli.annotated import Note, annotated, short_names
from tl.cli.configuration import check_files
from tl.cli.messages import one_line
from tl.cli.on_runs import expanded, places_and_options, taken
from tl.cli.origins import COMMAND_LINE, Origins
from tl.cli.short_forms import written_out
from tl.reading import versions_in

_YAML = (".yaml", ".yml")
_ALWAYS = {"weights_only": True}  # what every run sets
_OF_SOURCE, _USUAL = "source's recipe", "usual recipe"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tl show``."""
    parser.usage = "tl show CONFIG... [--all] [options of tl fit]"
    parser.epilog = (
        "CONFIG is a YAML file, a run, a checkpoint, or a folder or table of images. The output is "
        "a configuration, too: tl show a.yaml b.yaml > mine.yaml."
    )
    parser.add_argument("--all", action="store_true", help="Also values at their defaults.")


@dataclass
class _Command:
    """The command of ``tl fit`` to show.

    Args:
        words: It and its options.
        names: Names of sources by what stands for them after ``--config=``.
        complete: Sources that hold every value, those at their defaults too.
        places: Names of sources by path, where they are not an end of it.
    """

    words: list[str]
    names: dict[str, str] = field(default_factory=dict)
    complete: set[str] = field(default_factory=set)
    places: dict[str, str] = field(default_factory=dict)


def run(given: argparse.Namespace) -> None:
    """Print the configuration."""
    command = _command(given.rest)
    words = written_out(command.words)
    check_files(words)
    from tl.cli.resolved import (  # noqa: PLC0415 - Lightning and all
        ResolvedConfiguration,
        class_defaults,
        sections_of,
    )

    resolved = ResolvedConfiguration(words)
    origins = Origins.of_command(words, command.names, sections_of(resolved.found))
    usual = {**class_defaults(resolved.found), **resolved.defaults, **_ALWAYS}
    named = {COMMAND_LINE, *command.names.values()}
    short = short_names([source for source in origins.sources if source not in named])

    def note_of(key: str, value: Any) -> Note:  # noqa: ANN401 - any YAML value
        settings = origins.of(key)
        source = settings[-1][0] if settings else ""
        is_set = bool(settings)
        if key in resolved.derived:
            return Note(resolved.derived[key], is_set=True)
        if source in command.complete and value == usual.get(key, ...):
            is_set = False
        if not settings and key in resolved.variables:
            return Note(f"${resolved.variables[key]}", is_set=True)
        others = [each for each in settings[:-1] if each[1] != settings[-1][1]]
        over = ""
        if others:
            before, was = others[-1]
            over = f", over {_said(was)} in {short.get(before, before)}"
        return Note(short.get(source, source) or "default", is_set=is_set, more=over)

    text, left_out = annotated(resolved.found, note_of, whole=given.all)
    header = _header({**short, **command.places}, left_out)
    print("".join(f"# {line}\n" for line in header) + text, end="")  # noqa: T201


def _said(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool | None) else one_line(str(value))


def _header(short: dict[str, str], left_out: int) -> list[str]:
    lines = [
        "What tl fit runs, and where each value comes from; later sources override earlier ones."
    ]
    longer = {name: path for path, name in short.items() if name != path}
    width = max(map(len, longer), default=0)
    lines += [f"  {name:{width}}  {path}" for name, path in longer.items()]
    if left_out:
        lines.append(f"{left_out} values at their defaults are left out; --all shows them.")
    return lines


def _command(words: list[str]) -> _Command:
    """Return the command of ``tl fit`` for the words after ``tl show``.

    Raises:
        ValueError: If no configuration is given, or one does not exist.
    """
    named, options = places_and_options(words)
    if not words:
        raise ValueError("give a configuration, such as tl show configs/multitask.yaml, or a run.")
    command = _Command(["fit"])
    others = []
    for place in named:
        if place.endswith(_YAML):
            command.words.append(f"--config={place}")
        elif not _take_run(command, Path(place).expanduser()):
            others.append(place)
    if not others and not {"--from", "--strategy"} & {w.partition("=")[0] for w in options}:
        command.words += options
        return command
    with redirect_stdout(sys.stderr):  # the configuration can be piped
        found = expanded(["fit", *others, *options])
    if others:
        recipe = found[1].partition("=")[2]
        source = next(reversed(taken(options)[0]["--from"]), None)
        command.names[recipe] = _OF_SOURCE if source else _USUAL
        if source:
            command.places[source] = _OF_SOURCE
            command.complete.add(_OF_SOURCE)
    # the recipe first, then the files that change it
    start = 2 if others else 1
    command.words = ["fit", *found[1:start], *command.words[1:], *found[start:]]
    return command


def _take_run(command: _Command, place: Path) -> bool:
    """Add the configuration of a run or checkpoint; return whether the place is one."""
    if place.is_dir():
        whole = (place / "config.yaml").is_file()
        if not (runs := [place] if whole else versions_in(place, "config.yaml")):
            return False
        file = runs[-1] / "config.yaml"
        command.words.append(f"--config={file}")
        command.complete.add(str(file))
        return True
    if place.suffix != ".ckpt":
        return False
    from tl.cli.own_configuration import with_own_configuration  # noqa: PLC0415 - torch

    configuration = with_own_configuration(["test", f"--ckpt_path={place}"])[1]
    text = configuration.partition("=")[2]
    command.words.append(configuration)
    if text.startswith("{"):
        command.names[text] = str(place)
    command.complete.add(command.names.get(text, text))
    return True
