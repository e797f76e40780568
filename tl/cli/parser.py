"""The command line's parser: errors are one line."""

from __future__ import annotations

import ast
import json
import os
import sys
from argparse import ArgumentParser
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger

from tl.cli.class_help import own_classes
from tl.cli.messages import USAGE_ERROR, parse_error_line
from tl.cli.verbs import verb_of
from tl.private.jsonargparse import options_of
from tl.signals import CommandEnded


class OneLineParser(LightningArgumentParser):
    """A parser whose errors are one line."""

    _has_verb = True

    def __init__(self, *given: Any, **options: Any) -> None:  # noqa: ANN401 - as jsonargparse has it
        """Name the program also in the help of a class, which has a parser of its own."""
        options.setdefault("prog", "tl")
        super().__init__(*given, **options)

    def format_help(self, *given: Any, **options: Any) -> str:  # noqa: ANN401 - as jsonargparse has it
        """Return the help, which names our classes in place of all that torch has."""
        for action in options_of(self):
            if extra_help := getattr(action, "extra_help", None):
                known = own_classes(extra_help(), action.dest)
                action.extra_help = lambda known=known: known  # type: ignore[attr-defined]
        text: str = super().format_help(*given, **options)
        return text

    def parse_args(self, args: Any = None, *more: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever jsonargparse passes
        """Parse arguments, including those of a class within an option.

        jsonargparse passes these to the class's parser as ``str(value)``, in which ``null`` is
        ``None``.
        """
        self._has_verb = args is None or verb_of(args) is not None
        if args is not None and not self.exit_on_error:
            args = [_with_null(argument) for argument in args]
        return super().parse_args(args, *more, **options)

    def dump(self, namespace: Any, *more: Any, **options: Any) -> str:  # noqa: ANN401 - as jsonargparse has it
        """Write a configuration, including tasks that the user sets because the data have none.

        jsonargparse leaves out every linked argument, whether or not the data provide it.
        """
        if any(namespace.get(f"model.init_args.{key}") for key in ("task", "tasks")):
            options.setdefault("skip_link_targets", False)
        text: str = super().dump(namespace, *more, **options)
        return text

    def add_class_arguments(self, class_type: Any, *more: Any, **options: Any) -> list[str]:  # noqa: ANN401 - as jsonargparse has it
        """Add a class's arguments; a logger's folder is optional and defaults to the run's."""
        added: list[str] = super().add_class_arguments(class_type, *more, **options)
        if isinstance(class_type, type) and issubclass(class_type, Logger):
            for action in options_of(self):
                action.required = action.required and action.dest != "save_dir"
        return added

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the line that matters and exit with 2."""
        if not self.exit_on_error:
            super().error(message, ex)  # a member of a union: the parser tries the others
        if os.environ.get("TL_DEBUG") == "1":
            raise ValueError(message) from ex
        # a missing key; a class without such an option raises another type
        if isinstance(ex, KeyError) and not self._has_verb and len(self._family()) > 1:
            self._end("give a verb, such as fit, test or predict; --help lists them.")
        options = [
            option.lstrip("-")
            for parser in self._family()
            for action in options_of(parser)
            for option in action.option_strings
            if not option.endswith(".help")
        ]
        self._end(parse_error_line(message, options))

    def _end(self, line: str) -> NoReturn:
        print(f"tl: {line}", file=sys.stderr)  # noqa: T201
        raise CommandEnded(line, USAGE_ERROR)

    def _family(self) -> list[ArgumentParser]:
        """Return this parser and those of its subcommands."""
        below = [a.choices for a in options_of(self) if isinstance(a.choices, dict)]
        return [self, *(p for choices in below for p in choices.values())]


def _with_null(argument: str) -> str:
    """Write Python's ``None`` in the value of an argument as ``null``."""
    name, equals, text = argument.partition("=")
    if "None" not in text:
        return argument
    try:
        return f"{name}{equals}{json.dumps(ast.literal_eval(text))}"
    except (ValueError, SyntaxError, TypeError):
        return argument  # a text that contains the word
