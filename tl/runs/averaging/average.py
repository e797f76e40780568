"""One checkpoint from several: WiSE-FT and model soups, with re-estimated statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tl.callbacks import AtomicCheckpointIO
from tl.runs.averaging.bench import Bench
from tl.runs.averaging.ingredients import (
    Ingredient,
    check_held_out,
    fit_together,
    read_ingredient,
)
from tl.runs.folders import configuration_of
from tl.transfer.weight_space import Soup, average_weights, greedy_soup

#: Checkpoint entries that concern resuming.
TRAINING = ("optimizer_states", "lr_schedulers", "loops", "callbacks", "MixedPrecision")


def average_checkpoints(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    alpha: float | None = None,
    greedy: bool = False,
    backbone_only: bool = False,
    average_statistics: bool = False,
    configurations: Sequence[str | Path] = (),
    accelerator: str = "auto",
) -> str:
    """Average the weights of checkpoints of this framework and write the result.

    The result is a checkpoint of the last one's task: ``test`` and ``init_from`` accept it, and it
    records its ingredients. State outside backbone and heads, such as a balancer's, comes from the
    last one. With batch norm, running statistics of what is averaged are re-estimated on one epoch
    of the run's training images, not augmented, in its batches; so are those of every candidate of
    a greedy soup. WiSE-FT with all weight on one ingredient keeps its statistics.

    Heads are matched by class names, in the order of the last one.

    Args:
        paths: The checkpoints, two or more. For WiSE-FT the source first, the fine-tuned second.
        out: The file to write; it must not exist.
        alpha: WiSE-FT of two: weight of the second, 0 to 1. ``None`` weights all equally.
        greedy: Leave out checkpoints that worsen the score on the last one's validation images.
        backbone_only: Average only the backbones and keep the last one's heads. Otherwise tasks and
            classes must agree.
        average_statistics: Average the running statistics too, instead of re-estimating them.
        configurations: The run's configuration; ``config.yaml`` beside the last checkpoint's
            folder by default. Not read if no data are needed.
        accelerator: As of Lightning's Trainer.

    Returns:
        A report in lines of text.

    Raises:
        CheckpointError: If a file cannot be read or is not a checkpoint of this framework.
        ValueError: If the networks or their data are incompatible, have LoRA adapters, or an
            argument is invalid.
    """
    out = Path(out)
    if len(paths) < 2:  # noqa: PLR2004 - an average needs two
        raise ValueError(f"An average needs at least two checkpoints, got {len(paths)}.")
    if out.exists():
        raise ValueError(f"{out} already exists; choose another file with --out.")
    if alpha is not None and (len(paths) != 2 or not 0 <= alpha <= 1):  # noqa: PLR2004
        raise ValueError(
            f"`alpha` must be from 0 to 1 and needs exactly two checkpoints, got {alpha} and "
            f"{len(paths)} checkpoints."
        )
    parts = [read_ingredient(path, backbone_only=backbone_only) for path in paths]
    unchecked = fit_together(parts, backbone_only=backbone_only)
    last, states = parts[-1], [part.weights for part in parts]
    if greedy:
        check_held_out(parts)
    bench = None
    normalised = any(name.endswith("running_mean") for name in last.weights)
    if greedy or (normalised and not average_statistics):
        files = [Path(path) for path in configurations] or [configuration_of(last.path)]
        bench = Bench(
            last.content,
            files,
            accelerator,
            estimate=not average_statistics,
            backbone_only=backbone_only,
        )

    soup: Soup | None = None
    weights = [1 / len(parts)] * len(parts) if alpha is None else [1 - alpha, alpha]
    if greedy and bench is not None:
        soup = greedy_soup(
            len(parts),
            lambda members: bench.score(average_weights(states, _equal(members, len(parts)))),
            higher_is_better=bench.higher_is_better,
        )
        weights = _equal(soup.members, len(parts))
    state = average_weights(states, weights)
    # a single network keeps its own, unless it was selected by scores with re-estimated ones
    estimates = greedy or sum(weight > 0 for weight in weights) > 1
    metric = bench.metric if bench is not None else "val/acc"
    record = _record(parts, weights, alpha, soup, metric)
    record["statistics"] = None
    if bench is not None and estimates:
        state = bench.with_statistics(state)
        record["statistics"] = bench.described()
    weights_of_all = {**last.content["state_dict"], **state}
    write_average(out, {**last.content, "state_dict": weights_of_all}, record)
    return "\n".join([_summary(out, parts, record, metric), *unchecked])


def _equal(members: Sequence[int], count: int) -> list[float]:
    return [1 / len(members) if position in members else 0.0 for position in range(count)]


def _record(
    parts: Sequence[Ingredient],
    weights: Sequence[float],
    alpha: float | None,
    soup: Soup | None,
    metric: str,
) -> dict[str, Any]:
    """Return the provenance of the average in plain types."""
    method = "uniform soup" if alpha is None else f"WiSE-FT, alpha {alpha:g}"
    alone = [None] * len(parts) if soup is None else soup.alone
    ingredients = [
        part.record({"weight": weight, metric: score})
        for part, weight, score in zip(parts, weights, alone, strict=True)
    ]
    return {
        "method": "greedy soup" if soup is not None else method,
        metric: None if soup is None else soup.accuracy,
        "ingredients": ingredients,
    }


def write_average(out: Path, content: Mapping[str, Any], record: dict[str, Any]) -> None:
    """Write a checkpoint without what belongs to a run, with an average's provenance."""
    kept = {k: v for k, v in content["tl"].items() if k not in ("window", "statistics", "metrics")}
    plain = {key: value for key, value in content.items() if key not in TRAINING}
    AtomicCheckpointIO().save_checkpoint({**plain, "tl": {**kept, "provenance": record}}, out)


def _summary(out: Path, parts: Sequence[Ingredient], record: dict[str, Any], metric: str) -> str:
    lines = [f"tl: {record['method']} of {len(parts)} checkpoints: {out}"]
    for part, entry in zip(parts, record["ingredients"], strict=True):
        said = "" if entry[metric] is None else f" ({metric} {entry[metric]:.4f})"
        lines.append(f"tl: {entry['weight']:.4g} x {part.path}{said}")
    if record[metric] is not None:
        lines.append(f"tl: {metric} {record[metric]:.4f}, on the images used to select it")
    if record["statistics"] is not None:
        lines.append("tl: batch-norm statistics re-estimated on the run's training images")
    return "\n".join(lines)
