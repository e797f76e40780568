"""``tl compare``: runs side by side."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tl compare``."""
    parser.add_argument("runs", nargs="+", help="Run folders: NAME or NAME/version_N.")
    parser.add_argument("--metric", help="Metric of the curves: the one that chose the best.")
    parser.add_argument("--out", help="Write comparison.md, .json and curves.png there.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")


def run(given: argparse.Namespace) -> None:
    """Print the comparison."""
    from tl.report.compare import compare  # noqa: PLC0415 - `--help` needs none of it

    if given.metric and not given.out:
        raise ValueError("`--metric` chooses the curves that --out writes; add --out FOLDER.")
    found = compare(*given.runs)
    print(json.dumps(found.as_dict(), indent=2) if given.json else found.table())  # noqa: T201
    if given.out:
        paths = found.write(Path(given.out), given.metric)
        print(f"tl: wrote {', '.join(map(str, paths))}", file=sys.stderr)  # noqa: T201
