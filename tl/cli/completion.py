"""``tl completion``: a script with which a shell completes verbs, options, files and names.

The script is static: completing starts no Python.
"""

from __future__ import annotations

import argparse
import re
from typing import Any

from tl.cli.listing import entries
from tl.cli.on_runs import STRATEGIES
from tl.private.jsonargparse import options_of

SHELLS = ("bash", "zsh")
_OPTION = re.compile(r"(--[a-z][\w.-]*)(?: (\w+))?(?=[,;: ]|$)")
#: Names that an option of Lightning's verbs takes, in place of a file.
_CHOICES = {
    "--resume": ("auto",),
    "--trainer.accelerator": ("auto", "cpu", "gpu"),
    "--trainer.precision": ("32-true", "bf16-mixed", "16-mixed"),
}
_PLACES = {"FILE": "FILE", "CHECKPOINT": "FILE", "RUN": "FILE", "DIR": "DIRECTORY"}
_REPEATED = ("--config", "--strategy", "--balancer")  # options that may be given more than once
_FILES = ("--config", "--out", "--measured", "--baseline")  # options of our verbs that name one


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tl completion``."""
    parser.add_argument("shell", choices=SHELLS, help="The shell to write the script for.")


def run(given: argparse.Namespace) -> None:
    """Print the script.

    Raises:
        ModuleNotFoundError: If shtab is missing.
    """
    try:
        import shtab  # noqa: PLC0415 - an extra
    except ImportError:
        raise ModuleNotFoundError(
            "Shell completion needs shtab: pip install 'tl[completion]'."
        ) from None
    script = shtab.complete(command_line(shtab), shell=given.shell)
    print(_mended(script) if given.shell == "zsh" else script)  # noqa: T201


def _mended(script: str) -> str:
    """Let zsh complete each of several places, and the value of ``--option=``.

    shtab 1.8 marks places so that zsh completes the first only, and options without the ``=``.
    """
    script = re.sub(r'^  "\(\*\)::?', '  "*:', script, flags=re.MULTILINE)
    return re.sub(r'^(  "\*?--[\w.-]+)(\[.*\]:)', r"\1=\2", script, flags=re.MULTILINE)


def command_line(shtab: Any) -> argparse.ArgumentParser:  # noqa: ANN401 - a module
    """Return a parser of all verbs with the options that people use, without importing torch.

    Args:
        shtab: The package, for its marks of files and folders.
    """
    from tl.cli.help_page import DESCRIPTIONS, rows_of  # noqa: PLC0415 - imports the verbs
    from tl.cli.verbs import VERBS  # noqa: PLC0415 - imports this

    root = argparse.ArgumentParser(prog="tl", description="Transfer and multi-task learning.")
    root.add_argument("--version", action="store_true", help="Print the version.")
    verbs = root.add_subparsers()
    for name, text in DESCRIPTIONS.items():
        parser = verbs.add_parser(name, help=text, description=text)
        _place(parser.add_argument("place", nargs="*", help="Run, folder or table"), shtab.FILE)
        _add_options(parser, rows_of(name), shtab)
    for name, verb in VERBS.items():
        parser = verbs.add_parser(name, help=verb.help, description=verb.help)
        if verb.passes_on:
            _place(parser.add_argument("config", nargs="*", help="Configuration"), shtab.FILE)
            _add_options(parser, rows_of("fit"), shtab)
        verb.module.arguments(parser)
        for action in options_of(parser):
            named = not action.option_strings or {*_FILES} & {*action.option_strings}
            if named and action.choices is None and action.nargs != 0:
                _place(action, shtab.FILE)
        parser.usage = None  # written for people; a shell reads the arguments
    return root


def _add_options(
    parser: argparse.ArgumentParser,
    rows: tuple[tuple[str, str], ...],
    shtab: Any,  # noqa: ANN401
) -> None:
    """Add the options that a page of help names."""
    named = {"--balancer": "balancing", "--strategy": "transfer"}
    for options, text in rows:
        for option, value in _OPTION.findall(options):
            if option.endswith("KEY"):
                continue  # any name
            if not value:
                parser.add_argument(option, action="store_true", help=text)
                continue
            choices = _CHOICES.get(option) or (_names(named[option]) if option in named else None)
            action = parser.add_argument(
                option,
                action="append" if option in _REPEATED else "store",
                choices=choices,
                help=text.replace("`", ""),
            )
            if value in _PLACES:
                _place(action, getattr(shtab, _PLACES[value]))


def _names(kind: str) -> tuple[str, ...]:
    """Return the names of shipped overlays, or those that are known without a clone."""
    try:
        return tuple(name for name, _ in entries(kind))
    except ValueError:
        return tuple(STRATEGIES) if kind == "transfer" else ()


def _place(action: argparse.Action, mark: object) -> None:
    """Let a shell complete an argument by files or folders."""
    action.complete = mark  # type: ignore[attr-defined]
