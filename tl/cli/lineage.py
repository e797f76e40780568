"""``tl lineage``: where a checkpoint's weights came from."""

from __future__ import annotations

import argparse
import json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tl lineage``."""
    parser.add_argument("checkpoint", help="Checkpoint file.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")


def run(given: argparse.Namespace) -> None:
    """Print the ancestors of a checkpoint."""
    from tl.transfer.lineage import lineage  # noqa: PLC0415 - imports torch

    found = lineage(given.checkpoint)
    text = json.dumps(found.as_dict(), indent=2) if given.json else found.table()
    print(text)  # noqa: T201
