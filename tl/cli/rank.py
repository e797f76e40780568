"""``tl rank``: which source fits a target."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl.cli.devices import add_accelerator

if TYPE_CHECKING:
    from tl.questions.candidates import Candidate
    from tl.questions.measured import Measured

ORDERS = ("knn", "probe", "logme", "h_score", "leep")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tl rank``."""
    parser.add_argument(
        "sources",
        nargs="+",
        help="Two or more: checkpoints, run folders, or networks as torchvision:resnet18, "
        "timm:NAME, huggingface:NAME; NAME@WEIGHTS takes other weights, NAME@random none.",
    )
    parser.add_argument(
        "--config",
        action="append",
        required=True,
        help="Configuration with the target's `data`. May be repeated; later ones override "
        "earlier ones.",
    )
    parser.add_argument("--task", help="Task of the target, if it has several.")
    parser.add_argument("--order", choices=ORDERS, default="knn", help="Score to rank by: knn.")
    parser.add_argument("--neighbours", type=int, default=10, help="Neighbours of kNN: 10.")
    parser.add_argument(
        "--samples",
        type=int,
        default=5000,
        help="Labelled training samples of the target to use at most, the classes in proportion: "
        "5000.",
    )
    parser.add_argument("--resamples", type=int, default=200, help="For the range of a rank: 200.")
    parser.add_argument(
        "--measured",
        metavar="STUDY",
        help="Study file whose finished runs started from these sources: compare the scores with "
        "their results.",
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="AXIS=VALUE",
        help="Take only runs of the study with this value, where they differ in more than source.",
    )
    parser.add_argument("--study-out", help="Folder of the study, as for `tl study --out`.")
    add_accelerator(parser)
    parser.add_argument("--out", default="lightning_logs/rank", help="Folder for the results.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")


def run(given: argparse.Namespace) -> None:
    """Print the ranking, and write it."""
    from tl.checkpoints.whole_files import made_folder  # noqa: PLC0415 - imports torch
    from tl.questions.about import about_data  # noqa: PLC0415 - as above
    from tl.questions.ranking import rank  # noqa: PLC0415 - imports torch
    from tl.questions.ranking_report import as_dict, table, write  # noqa: PLC0415 - as above
    from tl.questions.samples import by_size, samples_of  # noqa: PLC0415 - as above
    from tl.serving.candidates import open_candidate  # noqa: PLC0415 - as above

    for name in ("neighbours", "samples", "resamples"):
        if getattr(given, name) < 1:
            raise ValueError(f"`--{name}` must be 1 or more, got {getattr(given, name)}.")
    if len(given.sources) < 2:  # noqa: PLR2004 - a ranking compares
        raise ValueError(
            "A ranking compares sources, got 1; name two or more, such as an earlier run and "
            "torchvision:resnet18."
        )
    if (given.where or given.study_out) and not given.measured:
        raise ValueError("`--where` and `--study-out` are of a study; name it by `--measured`.")
    data = target_data(given.config)
    at = by_size(data, lambda: samples_of(data, "train", given.samples, given.task))
    about = getattr(data, "data_name", None)
    device = {"gpu": "cuda"}.get(given.accelerator, given.accelerator)
    candidates = [open_candidate(each, device=device, source=about) for each in given.sources]
    measured = _measured(given, candidates) if given.measured else None
    out = made_folder(given.out)
    found = rank(
        candidates,
        at,
        given.task,
        order=given.order,
        neighbours=given.neighbours,
        resamples=given.resamples,
        measured=measured,
        about=about_data(data, "training samples"),
    )
    print(json.dumps(as_dict(found), indent=2) if given.json else table(found))  # noqa: T201
    paths = write(found, out)
    print(f"tl: wrote {', '.join(map(str, paths))}", file=sys.stderr)  # noqa: T201


def target_data(configurations: Sequence[str]) -> Any:  # noqa: ANN401 - any data module
    """Build the data module of a target, and load its training split.

    Raises:
        ValueError: If the files have no `data`, or data of several sources.
    """
    from tl.runs.folders import build_data  # noqa: PLC0415 - imports Lightning

    data = build_data([Path(each) for each in configurations])
    if isinstance(sources := getattr(data, "sources", None), Mapping):
        raise ValueError(  # noqa: TRY004 - a setting
            f"The target has the sources {', '.join(sources)}; give the configuration of one, "
            "such as a CifarDataModule."
        )
    data.prepare_data()
    data.setup("fit")
    return data


def _measured(given: argparse.Namespace, candidates: Sequence[Candidate]) -> Measured:
    from tl.questions.measured import Measured  # noqa: PLC0415 - imports torch
    from tl.study.sources import results_by_source  # noqa: PLC0415 - only with --measured

    where = dict(_where(each) for each in given.where)
    found = results_by_source(Path(given.measured), given.study_out, where)
    known = {e.name: e.sha256 for e in candidates if e.sha256 and e.sha256 in found.runs}
    if not known:
        raise ValueError(
            f"No finished run of {given.measured} started from one of these sources; name the "
            "checkpoints that its runs load by `init_from`."
        )
    return Measured(
        study=found.study,
        metric=found.metric,
        lower_is_better=found.lower_is_better,
        values={name: found.mean(source) for name, source in known.items()},
        runs={name: len(found.runs[source]) for name, source in known.items()},
        done=found.done,
        total=found.total,
    )


def _where(text: str) -> tuple[str, str]:
    axis, equals, value = text.partition("=")
    if not (axis and equals):
        raise ValueError(f"`--where` must be AXIS=VALUE, got {text!r}.")
    return axis, value
