"""``tl predict RUN FILE...``: the answers of a run's model for images or files of texts."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

from tl.cli.verbs import VerbParser

_SHOWN = 20  # answers on the terminal; all are in the file


def run_predict_files(arguments: Sequence[str]) -> None:
    """Parse the arguments of the command, and run it.

    Args:
        arguments: What follows ``predict``.
    """
    parser = VerbParser(prog="tl predict", allow_abbrev=False)
    parser.add_argument("run", help="A run folder, checkpoint or hub repository.")
    parser.add_argument("paths", nargs="+", help="Images, folders of them, or files of texts.")
    parser.add_argument("--source", help="Source to read them as; only its tasks answer.")
    parser.add_argument("--out", help="The file; predictions.csv in the run folder by default.")
    predict_files(parser.parse_args(arguments))


def predict_files(arguments: argparse.Namespace) -> None:
    """Answer each file, and write the answers as ``predict`` does.

    Raises:
        ValueError: If none can be read.
    """
    from tl.callbacks.predictions import RowFile  # noqa: PLC0415 - Lightning, torch and all
    from tl.reading import shown  # noqa: PLC0415 - as above
    from tl.runs.folders import run_of_checkpoint  # noqa: PLC0415 - as above
    from tl.serving.load import load  # noqa: PLC0415 - as above

    model = load(arguments.run)
    first = model.sources[0] if model.each_can_read else None
    reader = model.reader(arguments.source or first)
    texts = reader.modality == "texts"
    named = [
        (f"{path}, text {row}: " if texts else "", sample)
        for path in arguments.paths
        for row, sample in enumerate(reader.spread(Path(path))[0], start=1)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # each is named below
        # sources may read different columns of a file
        given = [*map(Path, arguments.paths)] if texts else [sample for _, sample in named]
        answers = model.predict(given, source=arguments.source)
    tasks = model.module.tasks
    columns = tuple(dict.fromkeys(name for task in tasks.values() for name in task.columns))
    run = run_of_checkpoint(model.path)
    out = Path(arguments.out) if arguments.out else (run or Path()) / "predictions.csv"
    rows = RowFile(out, ("image", "task", *columns))
    shown_lines = 0
    for (where, sample), prediction in zip(named, answers, strict=True):
        if prediction.error is not None:
            print(f"tl: not read: {where}{prediction.error}")  # noqa: T201
            continue
        called = " | ".join(sample) if isinstance(sample, tuple) else str(sample)
        for name, answer in prediction.items():
            cells = answer.cells
            rows.add([[called, name, *(cells.get(column, "") for column in columns)]])
            if shown_lines < _SHOWN:
                print(f"{called}  {name}  {answer.words}")  # noqa: T201
                shown_lines += 1
    rows.close()
    print(f"tl: {rows.count} predictions in {shown(out)}")  # noqa: T201
