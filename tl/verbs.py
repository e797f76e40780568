"""Our own verbs of the command line, beside Lightning's: they take checkpoints, not runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from tl.transfer.lineage import lineage


class VerbParser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and exit with 2."""
        print(f"tl: {message.rstrip('.')}.", file=sys.stderr)  # noqa: T201
        self.exit(2)


@dataclass(frozen=True)
class Verb:
    """A subcommand.

    Args:
        help: What it does, in a line.
        arguments: Adds its arguments to a parser.
        run: Does it.
    """

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def run_verb(name: str, arguments: list[str]) -> None:
    """Parse the arguments of one of our verbs, and do it.

    Args:
        name: One of :data:`VERBS`.
        arguments: What follows it on the command line.
    """
    verb = VERBS[name]
    parser = VerbParser(prog=f"tl {name}", description=verb.help, allow_abbrev=False)
    verb.arguments(parser)
    verb.run(parser.parse_args(arguments))


def _lineage_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="A checkpoint.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")


def _lineage(given: argparse.Namespace) -> None:
    found = lineage(given.checkpoint)
    text = json.dumps(found.as_dict(), indent=2) if given.json else found.table()
    print(text)  # noqa: T201


VERBS = {
    "lineage": Verb(
        "Print where a checkpoint's weights came from, back to the first source.",
        _lineage_arguments,
        _lineage,
    ),
}
