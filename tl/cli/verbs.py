"""Our verbs, in addition to Lightning's: they read what runs have written."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from tl.cli import (
    average,
    compare,
    completion,
    delta_m,
    export,
    fewshot,
    group,
    lineage,
    listing,
    new,
    rank,
    show,
    study,
)
from tl.cli.messages import did_you_mean
from tl.cli.short_forms import LIGHTNINGS
from tl.private.jsonargparse import options_of

#: Lightning's verbs, which need its parser.
_INVALID = re.compile(r"invalid choice: '(.*)' \(choose from (.*)\)")
_QUOTED = re.compile(r"[^\s,']+")
_TAKES_A_VALUE = ("-c", "--config")  # options that may precede the verb


class VerbParser(argparse.ArgumentParser):
    """A parser with one-line errors."""

    def error(self, message: str) -> NoReturn:
        """Print an error and exit with 2."""
        more = f" `{self.prog} --help` explains them." if "are required" in message else ""
        if wrong := _INVALID.search(message):
            name, known = wrong.group(1), _QUOTED.findall(wrong.group(2))
            more = did_you_mean(name, known)
            message = f"there is no {name!r} here; choose {', '.join(known)}"
        print(f"tl: {message.rstrip('.')}.{more}", file=sys.stderr)  # noqa: T201
        self.exit(2)


class PassingParser(VerbParser):
    """A parser of flags that leaves all other words in ``rest``, for Lightning's verbs."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: ANN401 - as argparse has it
        """Parse the flags, wherever they stand."""
        words = list(args or ())
        flags = {option for action in options_of(self) for option in action.option_strings}
        given = super().parse_args([word for word in words if word in flags], namespace)
        given.rest = [word for word in words if word not in flags]
        return given


class VerbModule(Protocol):
    """What the module of a verb has."""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the verb's arguments."""

    def run(self, given: argparse.Namespace) -> None:
        """Run the verb."""


@dataclass(frozen=True)
class Verb:
    """A subcommand.

    Args:
        help: One-line description.
        module: Adds its arguments to a parser, and runs it.
        passes_on: Whether it also takes the options of ``fit``, which its own flags stand among.
    """

    help: str
    module: VerbModule
    passes_on: bool = False


def verb_of(arguments: Sequence[str]) -> str | None:
    """Return the verb of a command line, which may follow options; ``None`` without one."""
    words = iter(arguments)
    for word in words:
        if word in _TAKES_A_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def check_verb(arguments: Sequence[str]) -> None:
    """Refuse a command with an unknown verb.

    Raises:
        ValueError: If the verb is unknown; lists the known ones.
    """
    verb, known = verb_of(arguments), [*LIGHTNINGS, *VERBS]
    if verb is not None and verb not in known:
        close = did_you_mean(verb, known)
        raise ValueError(f"there is no verb {verb!r}; choose {', '.join(known)}.{close}")


def run_verb(name: str, arguments: list[str]) -> None:
    """Parse the arguments of one of our verbs, and run it."""
    VERBS[name].module.run(parser_of(name).parse_args(arguments))


def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser of one of our verbs."""
    verb = VERBS[name]
    kind = PassingParser if verb.passes_on else VerbParser
    parser = kind(prog=f"tl {name}", description=verb.help, allow_abbrev=False)
    verb.module.arguments(parser)
    return parser


VERBS = {
    "average": Verb(
        "Average checkpoints' weights: WiSE-FT, uniform and greedy model soups.", average
    ),
    "compare": Verb(
        "Set runs side by side: settings that differ, scores, cost and curves.", compare
    ),
    "completion": Verb(
        "Print a script with which bash or zsh completes verbs, options, files and names.",
        completion,
    ),
    "delta_m": Verb(
        "Compare multi-task runs with a network per task: Delta_m over seeds.", delta_m
    ),
    "export": Verb(
        "Write a trained model as a folder to ship: torch.export, ONNX, safetensors and a card.",
        export,
    ),
    "fewshot": Verb(
        "Tell new classes from a few labelled samples of each, on the features of checkpoints.",
        fewshot,
    ),
    "group": Verb(
        "Divide the tasks of a run into groups to train together, by their affinity.", group
    ),
    "lineage": Verb(
        "Print where a checkpoint's weights came from, back to the first source.", lineage
    ),
    "new": Verb("Write a project of your own: configuration, data module, task and test.", new),
    "rank": Verb(
        "Rank sources for a target by their features, with the uncertainty of the ranking.", rank
    ),
    "list": Verb(
        "List what is in the box: balancing, transfer, sources, backbones, tasks, studies.", listing
    ),
    "show": Verb(
        "Print the resolved configuration of a command, with where each value comes from.",
        show,
        passes_on=True,
    ),
    "study": Verb("Run the runs of a study file, or print its status or report.", study),
}
