"""``tl export``: a trained model as a folder that others can use."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress

_FAILED = 1


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tl export``."""
    parser.add_argument("model", help="Checkpoint, run folder, or folder of runs.")
    parser.add_argument("--out", required=True, help="Folder to write, new or empty.")
    parser.add_argument(
        "--onnx", action="store_true", help="Also write model.onnx: pip install 'tl[onnx]'."
    )
    parser.add_argument(
        "--license",
        "--licence",
        dest="licence",
        help="Licence of the weights for the card, such as mit or cc-by-nc-4.0; in a terminal you "
        "are asked for it.",
    )
    parser.add_argument(
        "--source", help="The source to answer about, where sources have different inputs."
    )
    parser.add_argument(
        "--shape",
        type=int,
        nargs="+",
        help="Shape of a sample, such as 3 32 32, where the checkpoint does not describe its data.",
    )


def run(given: argparse.Namespace) -> None:
    """Write the folder, and print what is in it."""
    from tl.serving.exporting import export  # noqa: PLC0415 - imports torch

    licence = given.licence
    if licence is None and sys.stdin.isatty():
        asked = "Licence of the weights, such as mit or cc-by-nc-4.0 (empty: none stated): "
        with suppress(EOFError):  # nobody answers
            licence = input(asked).strip() or None
    done = export(
        given.model,
        given.out,
        onnx=given.onnx,
        licence=licence,
        source=given.source,
        shape=given.shape,
    )
    print(f"{done.folder}: {', '.join(done.files)}")  # noqa: T201
    if graphs := [name for name in done.files if name.endswith((".pt2", ".onnx"))]:
        print(  # noqa: T201
            f"{' and '.join(graphs)} answered as the live model did (largest difference "
            f"{done.difference:.1g})."
        )
    print(f'Load it: tl.load("{done.folder}"); without tl, as README.md in it shows.')  # noqa: T201
    if licence is None:
        print(  # noqa: T201
            "tl: the card states no licence; give one by --license, such as mit.", file=sys.stderr
        )
    for problem in done.problems:
        print(f"tl: {problem.rstrip('.')}. Written: {', '.join(done.files)}.", file=sys.stderr)  # noqa: T201
    if done.problems:
        sys.exit(_FAILED)
