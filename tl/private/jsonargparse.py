"""Private names of jsonargparse and argparse, seen in jsonargparse 4.53.0."""

from __future__ import annotations

from argparse import Action, ArgumentParser
from typing import Any, cast


def options_of(parser: ArgumentParser) -> list[Action]:
    """Return a parser's options; argparse has no public list of them."""
    return parser._actions


def list_verb(parser: ArgumentParser, name: str, description: str) -> None:
    """Have ``--help`` list a verb that is run before there is a parser.

    Args:
        parser: A parser with subcommands.
        name: The verb.
        description: What it does.
    """
    cast("Any", parser)._subcommands_action.add_subcommand(name, ArgumentParser(), help=description)
