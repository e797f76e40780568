"""One network with all heads from several fine-tuned ones: task arithmetic and TIES."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from tl.checkpoints.files import read_checkpoint
from tl.data.progress import progress
from tl.report.intervals import finite
from tl.runs.averaging.average import write_average
from tl.runs.averaging.bench import Bench
from tl.runs.averaging.heads import Head, heads_of, named
from tl.runs.averaging.ingredients import Ingredient, State, fingerprints, read_ingredient
from tl.runs.averaging.merge_report import summary
from tl.transfer.source import rows_by_name
from tl.transfer.task_vectors import task_arithmetic, ties
from tl.transfer.weight_space import check_alike

Method = Literal["task-arithmetic", "ties"]
#: Coefficients that are tried, those of the authors of TIES for each method.
COEFFICIENTS: dict[Method, tuple[float, ...]] = {
    "task-arithmetic": tuple(step / 10 for step in range(1, 11)),
    "ties": tuple(step / 10 for step in range(8, 26)),
}
_BACKBONE = "backbone."


def merge_checkpoints(
    source: str | Path,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    method: Method = "task-arithmetic",
    keep: float = 0.2,
    coefficients: Sequence[float] | None = None,
    joint: str | Path | None = None,
    configurations: Sequence[str | Path] = (),
    accelerator: str = "auto",
) -> str:
    """Merge networks that were fine-tuned from one source, and write one with the heads of all.

    The result is a checkpoint of the run that `configurations` describes: a multi-task run on the
    data of all. With batch norm, running statistics are re-estimated on its training images, for
    each coefficient that is tried. The coefficient with the best validation score is taken.

    Args:
        source: Checkpoint that the others started from with ``init_from``.
        paths: Fine-tuned checkpoints, one or more, each with a head that the run has too.
        out: The file to write; it must not exist. Its provenance holds the report's numbers.
        method: ``task-arithmetic`` or ``ties``, see :mod:`tl.transfer.task_vectors`.
        keep: Fraction of each task vector that TIES keeps.
        coefficients: Coefficients to try, by default :data:`COEFFICIENTS` of the method; a single
            one is taken as it is.
        joint: Checkpoint of the multi-task run trained jointly, for the comparison.
        configurations: Configuration of the multi-task run.
        accelerator: As of Lightning's Trainer.

    Returns:
        A report in lines of text: the coefficients, and the scores of each task.

    Raises:
        CheckpointError: If a file cannot be read or is not a checkpoint of this framework.
        ValueError: If the checkpoints do not fit each other or the run, or an argument is invalid.
    """
    out = Path(out)
    if coefficients is None:
        coefficients = COEFFICIENTS.get(method, ())
    _check_arguments(out, paths, method, keep, coefficients, configurations)
    start = read_ingredient(source, backbone_only=True)
    parts = [read_ingredient(path, backbone_only=False) for path in paths]
    other = None if joint is None else read_ingredient(joint, backbone_only=False)
    bench = Bench(None, [Path(path) for path in configurations], accelerator, estimate=True)
    _check_network(start, bench)
    noted = _noted(start, bench)
    for part in parts:
        _check_start(part, start)
        _check_data(part, bench)
    heads = _heads(parts, bench)
    together = {} if other is None else _together(other, bench)
    backbones = [_backbone(part) for part in parts]
    alone: dict[str, float] = {}
    for part, backbone in zip(parts, backbones, strict=True):
        alone |= _scores({**backbone, **heads}, part.heads, bench)

    def merged(coefficient: float) -> State:
        if method == "ties":
            found = ties(start.weights, backbones, coefficient, keep)
        else:
            found = task_arithmetic(start.weights, backbones, coefficient)
        return bench.with_statistics({**found, **heads})

    tried, (coefficient, state, metrics) = _search(coefficients, merged, bench)
    merged_scores = {task: metrics[bench.name(task)] for task in alone}
    scores = {"fine-tuned alone": alone, "merged": merged_scores, "trained jointly": together}
    said = f"TIES, keep {keep:g}" if method == "ties" else "task arithmetic"
    counts = {task: bench.module.samples["val"].get(task, 0) for task in alone}
    numbers = {
        "tried": [{"coefficient": each, "score": finite(score)} for each, score in tried.items()],
        "scores": {
            name: {task: finite(value) for task, value in column.items()}
            for name, column in scores.items()
            if column
        },
        "validated": counts,
        "notes": noted,
    }
    record = _record(said, [start, *parts], coefficient, metrics[bench.metric], bench)
    _write(out, bench, state, {**record, **numbers})
    return "\n".join([summary(out, said, coefficient, tried, bench, scores, counts), *noted])


def _together(joint: Ingredient, bench: Bench) -> dict[str, float]:
    """Return the validation score of each head of the network that was trained jointly."""
    _check_network(joint, bench)
    _check_data(joint, bench)
    state = {**joint.weights, **_heads([joint], bench, every=True)}
    return _scores(state, joint.heads, bench)


def _scores(state: State, tasks: Iterable[str], bench: Bench) -> dict[str, float]:
    """Return the validation score that decides for each task."""
    found = bench.measure(state)
    return {task: found[bench.name(task)] for task in tasks}


def _search(
    coefficients: Sequence[float], merged: Callable[[float], State], bench: Bench
) -> tuple[dict[float, float], tuple[float, State, dict[str, float]]]:
    """Return the score of each coefficient; and the best one, with its weights and metrics."""
    tried: dict[float, float] = {}
    best: tuple[float, State, dict[str, float]] | None = None
    for coefficient in progress(coefficients, len(coefficients), "Trying coefficients", least=2):
        state = merged(coefficient)
        metrics = bench.measure(state)
        tried[coefficient] = value = metrics[bench.metric]
        if math.isnan(value):
            continue
        sign = 1 if bench.higher_is_better else -1
        if best is None or sign * value > sign * best[2][bench.metric]:
            best = (coefficient, state, metrics)
    if best is None:
        raise ValueError(f"{bench.metric} is NaN for every coefficient; are the sources one?")
    return tried, best


def _check_arguments(
    out: Path,
    paths: Sequence[str | Path],
    method: str,
    keep: float,
    coefficients: Sequence[float],
    configurations: Sequence[str | Path],
) -> None:
    if method not in get_args(Method):
        raise ValueError(f"`method` must be one of {', '.join(get_args(Method))}, got {method!r}.")
    if not 0 < keep <= 1:
        raise ValueError(f"`keep` must be above 0 and at most 1, got {keep}.")
    if not paths:
        raise ValueError("Merging needs a source and at least one network fine-tuned from it.")
    if out.exists():
        raise ValueError(f"{out} already exists; choose another file with --out.")
    if not configurations:
        raise ValueError(
            "Merging needs the data of all tasks: give the configuration of a multi-task run with "
            "--config."
        )
    if not coefficients or not all(math.isfinite(value) for value in coefficients):
        raise ValueError(f"`coefficients` must be finite numbers, got {list(coefficients)}.")


def _check_network(part: Ingredient, bench: Bench) -> None:
    """Refuse another backbone than the run's, whose other layers would stay random."""
    per_source = ("running_mean_", "running_var_")  # estimated anew
    here = {
        name: value
        for name, value in bench.module.state_dict().items()
        if name.startswith(_BACKBONE)
        if name in part.weights or not name.rpartition(".")[2].startswith(per_source)
    }
    try:
        check_alike(_backbone(part), here)
    except ValueError as error:
        raise ValueError(f"{part.path} and the run of --config: {error}") from None


def _check_start(part: Ingredient, start: Ingredient) -> None:
    """Refuse a network that is of another architecture, or did not start from the source."""
    try:
        check_alike(_backbone(part), start.weights)
    except ValueError as error:
        raise ValueError(f"{part.path} and {start.path}: {error}") from None
    origin = part.content["tl"].get("provenance") or {}
    if (found := origin.get("sha256")) is None:
        raise ValueError(
            f"{part.path} does not record which checkpoint it started from, so what it changed is "
            f"not known; merge networks that were fine-tuned with init_from={start.path}."
        )
    if found != start.sha256:
        raise ValueError(
            f"{part.path} was fine-tuned from {origin.get('path')} ({found[:12]}), not "
            f"from {start.path} ({start.sha256[:12]}); give the source that all started from."
        )


def _check_data(part: Ingredient, bench: Bench) -> None:
    """Refuse to choose on images that a network was trained on."""
    here = fingerprints(bench.description())
    there = fingerprints(part.content["tl"].get("data") or {})
    for source, found in there.items():
        if here.get(source) != found:
            raise ValueError(
                f"{part.path} was trained on {source} {found}, the run merges on "
                f"{here.get(source, 'no source of this name')}: validation images of one may be "
                "training images of the other. Use the same data, seed, val_size and "
                "label_fraction, and the same names of sources."
            )


def _noted(start: Ingredient, bench: Bench) -> list[str]:
    """Say where the source may have been trained on images that choose the coefficient."""
    here = fingerprints(bench.description())
    there = fingerprints(start.content["tl"].get("data") or {})
    return [
        f"tl: {start.path} was trained on {source} {found}, the run merges on {here[source]}: "
        "validation images may be among its training images, and scores on them too good"
        for source, found in there.items()
        if source in here and here[source] != found
    ]


def _backbone(part: Ingredient) -> State:
    return {name: value for name, value in part.weights.items() if name.startswith(_BACKBONE)}


def _heads(parts: Sequence[Ingredient], bench: Bench, *, every: bool = False) -> State:
    """Return the heads of all, in the order of the run's classes."""
    wanted = heads_of(bench.module.state_dict())
    classes = getattr(bench.data, "class_names", {})
    found: dict[str, Head] = {}
    for part in parts:
        own = part.heads
        if strange := sorted(own.keys() - wanted.keys()):
            raise ValueError(
                f"{part.path} has a head for {', '.join(strange)}, the run has heads for "
                f"{', '.join(wanted)}; give its sources the same names."
            )
        if twice := sorted(own.keys() & found.keys()):
            raise ValueError(f"{part.path} has a second head for {', '.join(twice)}.")
        for task in own:
            what = f"{part.path}: the head of {task!r}"
            names, here = part.class_names.get(task), classes.get(task)
            rows = rows_by_name(names, here, what) if names and here else None
            found[task] = part.head(task, rows)
            try:
                check_alike(found[task], wanted[task])
            except ValueError as error:
                raise ValueError(f"{what} is not that of the run of --config: {error}") from None
    if missing := sorted(wanted.keys() - found.keys()):
        what = "does the joint checkpoint have" if every else "was fine-tuned on"
        raise ValueError(
            f"The run has the task {missing[0]!r}, and no network {what} it; leave it out of the "
            "configuration, or give its checkpoint."
        )
    return named(found)


def _record(
    said: str, parts: Sequence[Ingredient], coefficient: float, score: float, bench: Bench
) -> dict[str, Any]:
    """Return the provenance in plain types; the first ingredient is the source."""
    ingredients = [
        part.record({"weight": coefficient if position else 1.0})
        for position, part in enumerate(parts)
    ]
    return {
        "method": f"{said}, coefficient {coefficient:g}",
        bench.metric: score,
        "ingredients": ingredients,
        "statistics": bench.described(),
    }


def _write(out: Path, bench: Bench, state: State, record: dict[str, Any]) -> None:
    bench.measure(state)  # the module holds these weights, with the data they belong to
    draft = out.with_name(f".{out.name}.draft")
    try:
        bench.trainer.save_checkpoint(draft, weights_only=True)
        content = read_checkpoint(draft)
    finally:
        draft.unlink(missing_ok=True)
    write_average(out, content, record)
