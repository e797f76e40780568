"""Private names of jsonargparse that the command line's parser relies on."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from tests.private.names import find


def with_verb() -> ArgumentParser:
    parser = ArgumentParser()
    parser.add_subcommands().add_subcommand("fit", ArgumentParser())
    return parser


def test_a_parser_lists_its_options() -> None:
    from tl.private.jsonargparse import options_of  # noqa: PLC0415

    parser = ArgumentParser()
    parser.add_argument("--seed", type=int)
    find(parser, "_actions", "jsonargparse")
    assert ["--seed"] in [action.option_strings for action in options_of(parser)]


def test_a_verb_can_be_listed() -> None:
    from tl.private.jsonargparse import list_verb  # noqa: PLC0415

    parser = with_verb()
    find(parser, "_subcommands_action.add_subcommand", "jsonargparse")
    list_verb(parser, "report", "Compares runs.")
    assert "Compares runs." in parser.format_help()
