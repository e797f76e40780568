"""``tl predict RUN FILE...``: the answers of a run's model for single files."""

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
    parser.add_argument("paths", nargs="+", help="Images, or folders of them.")
    parser.add_argument("--source", help="Source to read them as, if the model has several.")
    parser.add_argument("--out", help="The file; predictions.csv in the run folder by default.")
    predict_files(parser.parse_args(arguments))


def predict_files(arguments: argparse.Namespace) -> None:
    """Answer each file, and write the answers as ``predict`` does.

    Raises:
        ValueError: If none can be read.
    """
    from tl.callbacks.predictions import RowFile  # noqa: PLC0415 - Lightning, torch and all
    from tl.data.images.listing import list_images  # noqa: PLC0415 - as above
    from tl.reading import shown  # noqa: PLC0415 - as above
    from tl.runs.folders import run_of_checkpoint  # noqa: PLC0415 - as above
    from tl.serving.load import load  # noqa: PLC0415 - as above

    files = [
        file
        for path in map(Path, arguments.paths)
        for file in (list_images(path) if path.is_dir() else [path])
    ]
    model = load(arguments.run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # each is named below
        answers = model.predict(files, source=arguments.source)
    tasks = model.module.tasks
    columns = tuple(dict.fromkeys(name for task in tasks.values() for name in task.columns))
    run = run_of_checkpoint(model.path)
    out = Path(arguments.out) if arguments.out else (run or Path()) / "predictions.csv"
    rows = RowFile(out, ("image", "task", *columns))
    shown_lines = 0
    for file, prediction in zip(files, answers, strict=True):
        if prediction.error is not None:
            print(f"tl: not read: {prediction.error}")  # noqa: T201
        for name, answer in prediction.items():
            cells = answer.cells
            rows.add([[str(file), name, *(cells.get(column, "") for column in columns)]])
            if shown_lines < _SHOWN:
                said = " ".join(cells[key] for key in ("class_name", "probability") if key in cells)
                print(f"{file}  {name}  {said or cells}")  # noqa: T201
                shown_lines += 1
    rows.close()
    print(f"tl: {rows.count} predictions in {shown(out)}")  # noqa: T201
