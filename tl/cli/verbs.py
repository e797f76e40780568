"""Our verbs, in addition to Lightning's: they read what runs have written."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from tl.cli.compare import compare_arguments, compare_runs
from tl.cli.messages import did_you_mean
from tl.cli.study import study, study_arguments
from tl.report import against_single

#: Lightning's verbs, which need its parser.
LIGHTNINGS = ("fit", "validate", "test", "predict")
_TAKES_A_VALUE = ("-c", "--config")  # of what may stand before the verb


class VerbParser(argparse.ArgumentParser):
    """A parser with one-line errors."""

    def error(self, message: str) -> NoReturn:
        """Print an error and exit with 2."""
        print(f"tl: {message.rstrip('.')}.", file=sys.stderr)  # noqa: T201
        self.exit(2)


@dataclass(frozen=True)
class Verb:
    """A subcommand.

    Args:
        help: One-line description.
        arguments: Adds its arguments to a parser.
        run: Runs it.
    """

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def verb_of(arguments: Sequence[str]) -> str | None:
    """Return the verb of a command line, or ``None``: options stand before it too."""
    words = iter(arguments)
    for word in words:
        if word in _TAKES_A_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def check_verb(arguments: Sequence[str]) -> None:
    """Refuse a command whose verb there is not.

    Args:
        arguments: The command line.

    Raises:
        ValueError: If there is no such verb; lists those that there are.
    """
    verb, known = verb_of(arguments), [*LIGHTNINGS, *VERBS]
    if verb is not None and verb not in known:
        close = did_you_mean(verb, known)
        raise ValueError(f"there is no verb {verb!r}; choose {', '.join(known)}.{close}")


def run_verb(name: str, arguments: list[str]) -> None:
    """Parse the arguments of one of our verbs, and run it.

    Args:
        name: One of :data:`VERBS`.
        arguments: The arguments after it.
    """
    VERBS[name].run(parser_of(name).parse_args(arguments))


def parser_of(name: str) -> argparse.ArgumentParser:
    """Return the parser of one of our verbs."""
    verb = VERBS[name]
    parser = VerbParser(prog=f"tl {name}", description=verb.help, allow_abbrev=False)
    verb.arguments(parser)
    return parser


def _lineage_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="Checkpoint file.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")


def _lineage(given: argparse.Namespace) -> None:
    from tl.transfer.lineage import lineage  # noqa: PLC0415 - imports torch

    found = lineage(given.checkpoint)
    text = json.dumps(found.as_dict(), indent=2) if given.json else found.table()
    print(text)  # noqa: T201


def _average_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoints",
        nargs="+",
        help="Two or more checkpoints; the last one's task and head are kept.",
    )
    parser.add_argument("--out", required=True, help="File for the new checkpoint.")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--alpha",
        type=float,
        help="WiSE-FT of two: weight of the second, 0 to 1. By default all have equal weights.",
    )
    how.add_argument(
        "--greedy",
        action="store_true",
        help="Add checkpoints best first, leaving out those that worsen the validation score.",
    )
    parser.add_argument(
        "--backbone-only",
        action="store_true",
        help="Average only the backbones and keep the last one's heads; tasks may differ.",
    )
    parser.add_argument(
        "--average-statistics",
        action="store_true",
        help="Average batch norm's running statistics instead of re-estimating them on the "
        "training images; needs no data.",
    )
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        help="Configuration of the run, for its data; default: config.yaml beside the last "
        "checkpoint's folder. May be repeated; later ones override earlier ones.",
    )
    parser.add_argument("--accelerator", default="auto", help="auto, cpu, gpu, ...")


def _average(given: argparse.Namespace) -> None:
    from tl.cli.averaging import average_checkpoints  # noqa: PLC0415 - imports Lightning

    print(  # noqa: T201
        average_checkpoints(
            given.checkpoints,
            given.out,
            alpha=given.alpha,
            greedy=given.greedy,
            backbone_only=given.backbone_only,
            average_statistics=given.average_statistics,
            configurations=given.config,
            accelerator=given.accelerator,
        )
    )


def _delta_m_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", help="Folders of tested multi-task runs, one per seed.")
    parser.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="TASK=FOLDER",
        help="Folder of a tested run of that task alone; repeat for each task and seed.",
    )
    parser.add_argument(
        "--score",
        action="append",
        default=[],
        metavar="TASK=SCORE",
        help="Score of a task to compare; repeat for the mean over several. Default: the score "
        "that decides for the task.",
    )


def _delta_m(given: argparse.Namespace) -> None:
    baselines: dict[str, list[str]] = {}
    for text in given.baseline:
        task, equals, folder = text.partition("=")
        if not (task and equals and folder):
            raise ValueError(f"`--baseline` must be TASK=FOLDER, got {text!r}.")
        baselines.setdefault(task, []).append(folder)
    scores: dict[str, list[str]] = {}
    for text in given.score:
        task, _, score = text.partition("=")
        if not (task and score):
            raise ValueError(f"`--score` must be TASK=SCORE, got {text!r}.")
        scores.setdefault(task, []).append(score)
    print(against_single(given.runs, baselines, scores).table())  # noqa: T201


VERBS = {
    "average": Verb(
        "Average checkpoints' weights: WiSE-FT, uniform and greedy model soups.",
        _average_arguments,
        _average,
    ),
    "compare": Verb(
        "Set runs side by side: settings that differ, scores, cost and curves.",
        compare_arguments,
        compare_runs,
    ),
    "delta_m": Verb(
        "Compare multi-task runs with a network per task: Delta_m over seeds.",
        _delta_m_arguments,
        _delta_m,
    ),
    "lineage": Verb(
        "Print where a checkpoint's weights came from, back to the first source.",
        _lineage_arguments,
        _lineage,
    ),
    "study": Verb(
        "Run a study file's runs, or tell how far it is and what it has found.",
        study_arguments,
        study,
    ),
}
