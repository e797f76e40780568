"""``tl average``: one checkpoint from several."""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tl average``."""
    parser.add_argument(
        "checkpoints",
        nargs="+",
        help="Two or more checkpoints, or run folders (their best ones); the last one's task and "
        "head are kept. With --method the source first: the others were fine-tuned from it, and "
        "all heads are kept.",
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
    how.add_argument(
        "--method",
        choices=("task-arithmetic", "ties"),
        help="Merge networks fine-tuned from one source into one with all heads. --config names "
        "a multi-task run on the data of all.",
    )
    parser.add_argument(
        "--coefficients",
        type=float,
        nargs="+",
        help="With --method: coefficients to try on the validation images; by default 0.1 to 1 for "
        "task-arithmetic, 0.8 to 2.5 for ties.",
    )
    parser.add_argument(
        "--keep",
        type=float,
        help="With --method=ties: fraction of each task vector that is kept, default 0.2.",
    )
    parser.add_argument(
        "--joint",
        help="With --method: checkpoint or folder of that run trained jointly, to compare with.",
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


def run(given: argparse.Namespace) -> None:
    """Write the average, and print what it is made of."""
    from tl.cli.devices import check_devices  # noqa: PLC0415 - imports Lightning
    from tl.serving.quiet import quiet_lightning  # noqa: PLC0415 - as above

    _check(given)
    check_devices(given.accelerator)
    with quiet_lightning():
        report = _report(given)
    print(report)  # noqa: T201


def _report(given: argparse.Namespace) -> str:
    """Write the average, and return what it is made of."""
    from tl.runs.averaging import average_checkpoints, merge_checkpoints  # noqa: PLC0415 - as above
    from tl.serving.places import checkpoint_in, located  # noqa: PLC0415 - as above

    checkpoints = [checkpoint_in(located(place)) for place in given.checkpoints]
    if given.method is not None:
        source, *others = checkpoints
        options = {name: getattr(given, name) for name in ("coefficients", "keep")}
        return merge_checkpoints(
            source,
            others,
            given.out,
            method=given.method,
            joint=None if given.joint is None else checkpoint_in(located(given.joint)),
            configurations=given.config,
            accelerator=given.accelerator,
            **{name: value for name, value in options.items() if value is not None},
        )
    return average_checkpoints(
        checkpoints,
        given.out,
        alpha=given.alpha,
        greedy=given.greedy,
        backbone_only=given.backbone_only,
        average_statistics=given.average_statistics,
        configurations=given.config,
        accelerator=given.accelerator,
    )


def _check(given: argparse.Namespace) -> None:
    """Refuse options that the way of averaging would ignore."""
    if given.keep is not None and given.method != "ties":
        raise ValueError("--keep belongs to --method=ties; add it, or leave out --keep.")
    if given.method is None:
        if given.joint is not None or given.coefficients is not None:
            raise ValueError("--joint and --coefficients belong to --method; name one.")
        return
    for name in ("average_statistics", "backbone_only"):
        if getattr(given, name):
            raise ValueError(
                f"--{name.replace('_', '-')} does not go with --method, which keeps all heads and "
                "re-estimates batch norm's statistics; leave it out."
            )
