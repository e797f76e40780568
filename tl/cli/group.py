"""``tl group``: which tasks to train together."""

from __future__ import annotations

import argparse
import json
import pydoc
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tl.reading import versions_in

_ALL = "backbone"
_SEEDS = 2**32
_OVERLAY = "configs/overlays/gradient_diagnostics.yaml"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tl group``."""
    parser.add_argument(
        "run",
        help="Folder of a run, such as lightning_logs/NAME, or a version_N in it, trained with "
        "GradientDiagnostics.",
    )
    parser.add_argument("--groups", type=int, required=True, help="Number of groups.")
    parser.add_argument(
        "--stage", default=_ALL, help="Stage whose affinities count: all of the backbone."
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="Seed of the random partitions, in the table and in the study, and of the searches "
        "among more than 12 tasks: 0.",
    )
    parser.add_argument("--out", default="lightning_logs/group", help="Folder for the results.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")


def run(given: argparse.Namespace) -> None:
    """Print the groups, and write them with a study that checks them."""
    from tl.checkpoints.whole_files import made_folder  # noqa: PLC0415 - imports torch
    from tl.questions.affinity import rank_correlation  # noqa: PLC0415 - as above
    from tl.questions.group_report import (  # noqa: PLC0415 - with matplotlib
        Groups,
        as_dict,
        table,
        write,
        write_study,
    )
    from tl.questions.grouping import best_grouping  # noqa: PLC0415 - as above

    if not 0 <= given.seed < _SEEDS:
        raise ValueError(f"`--seed` must be 0 to {_SEEDS - 1}, got {given.seed}.")
    run = _run_folder(Path(given.run))
    out = made_folder(given.out)
    content = _newest(run)
    means, exact = _affinities(content, run, given.stage)
    best = best_grouping(means.mean(), given.groups, given.seed)
    agreement = float("nan")
    # the look-ahead is a step of all stages
    if given.stage == _ALL and exact is not None and exact.tasks == means.tasks:
        agreement = rank_correlation(means.mean(), exact.mean())
    found = Groups(given.run, means, best, agreement, given.stage)
    print(json.dumps(as_dict(found), indent=2) if given.json else table(found))  # noqa: T201
    paths = write(found, out)
    configuration = run / "config.yaml"
    backbone = _backbone(content)
    hindrance = _hindrance(content, configuration, backbone)
    if hindrance is None and backbone is not None:
        paths += write_study(found, configuration, backbone, _metric(content), out, given.seed)
    print(f"tl: wrote {', '.join(map(str, paths))}", file=sys.stderr)  # noqa: T201
    if hindrance is not None:
        old = out / "group_study.yaml"
        stays = f" {old} is from an earlier call." if old.exists() else ""
        print(f"tl: wrote no study of the groups: {hindrance}.{stays}", file=sys.stderr)  # noqa: T201


def _run_folder(given: Path) -> Path:
    """Return a run's folder: the one given, or the newest version in it."""
    if given.is_file():
        raise ValueError(f"{given} is a file; name the folder of its run, {given.parent.parent}.")
    if not given.is_dir():
        raise ValueError(f"There is no run folder {given}.")
    found = [given, *versions_in(given)][-1]
    runs = [] if (found / "checkpoints").is_dir() else [p for p in given.iterdir() if p.is_dir()]
    if inside := sorted(path.name for path in runs if versions_in(path)):
        raise ValueError(
            f"{given} is no run, but holds some; name one of them: {', '.join(inside)}."
        )
    return found


def _newest(run: Path) -> Mapping[str, Any]:
    """Return the content of the checkpoint of the most steps in a run's folder."""
    from tl.checkpoints.files import glance_at  # noqa: PLC0415 - imports torch

    found = [glance_at(path) for path in (run / "checkpoints").glob("[!.]*.ckpt")]
    if not found:
        raise ValueError(f"{run} holds no checkpoint; affinities are kept in them.")
    return max(found, key=lambda content: int(content.get("global_step") or 0))


def _affinities(content: Mapping[str, Any], run: Path, stage: str) -> tuple[Any, Any]:
    """Return the affinities to first order, and those of the exact look-ahead or ``None``."""
    from tl.questions.affinity import PairMeans  # noqa: PLC0415 - imports torch

    states = content.get("callbacks") or {}
    diagnostics: Mapping[str, Any] = {}
    exact = None
    for key, state in states.items():
        if str(key).startswith("GradientDiagnostics") and isinstance(state, Mapping):
            diagnostics = state.get("affinities") or {}
        if str(key).startswith("TaskAffinity") and isinstance(state, Mapping):
            exact = state.get("exact")
    if not diagnostics:
        raise ValueError(
            f"{run} kept no affinities of its tasks; train it with GradientDiagnostics, such as by "
            f"--config {_OVERLAY}."
        )
    if stage not in diagnostics:
        raise ValueError(f"{run} has no stage {stage!r}; choose {', '.join(diagnostics)}.")
    means = PairMeans.from_state(diagnostics[stage])
    return means, None if exact is None else PairMeans.from_state(exact)


def _backbone(content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the run's backbone, as in its configuration; without it no study is written."""
    record = content.get("tl") or {}
    model: Any = (record.get("configuration") or {}).get("model") or {}
    found = (model.get("init_args") or {}).get("backbone")
    return found if isinstance(found, Mapping) and found.get("class_path") else None


def _hindrance(
    content: Mapping[str, Any], configuration: Path, backbone: Mapping[str, Any] | None
) -> str | None:
    """Return why a network per group cannot be trained as the run was; ``None`` if it can."""
    from tl.backbones.residual import ResidualBackbone  # noqa: PLC0415 - imports torch
    from tl.data.errors import listed  # noqa: PLC0415 - as above
    from tl.tasks import as_task  # noqa: PLC0415 - as above

    if not configuration.is_file() or backbone is None:
        return f"{configuration} is missing, or names no backbone"
    kind = pydoc.locate(str(backbone["class_path"]))
    if not (isinstance(kind, type) and issubclass(kind, ResidualBackbone)):
        return f"groups share one of tl's ResNets, and the run has {backbone['class_path']}"
    tasks = [as_task(task) for task in (content.get("tl") or {}).get("tasks") or ()]
    if others := [task.name for task in tasks if task.shares or not task.trains]:
        return f"each task must train a head of its own, unlike {listed(others)}"
    return None


def _metric(content: Mapping[str, Any]) -> str:
    """Return the metric that decides, over all tasks."""
    from tl.tasks import as_task, deciding_score  # noqa: PLC0415 - imports torch

    tasks = [as_task(task) for task in (content.get("tl") or {}).get("tasks") or ()]
    return f"test/{deciding_score(tasks)[0]}"
