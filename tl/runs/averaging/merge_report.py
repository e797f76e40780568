"""What a merge of networks came to, in lines of text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from tl.counting import counted
from tl.report.frame import aligned
from tl.runs.averaging.bench import Bench


def summary(
    out: Path,
    said: str,
    coefficient: float,
    tried: Mapping[float, float],
    bench: Bench,
    scores: Mapping[str, Mapping[str, float]],
    counts: Mapping[str, int],
) -> str:
    """Return in lines of text how a merge went.

    Args:
        out: The file.
        said: The method in words.
        coefficient: The coefficient that was taken.
        tried: Validation score by coefficient.
        bench: The run.
        scores: By column and task.
        counts: Number of validation samples with a target, by task.
    """
    columns = {name: column for name, column in scores.items() if column}
    alone, merged = scores["fine-tuned alone"], scores["merged"]
    rows = [[task, *(f"{column[task]:.4f}" for column in columns.values())] for task in alone]
    searched = ", ".join(f"{value:g}: {score:.4f}" for value, score in tried.items())
    lost = {task: merged[task] - alone[task] for task in alone}
    mean = sum(lost.values()) / len(lost)
    verdict = (
        f"tl: one network in place of {len(lost)} changes the validation scores by {mean:+z.4f} in "
        "the mean; the coefficient was chosen on these images, so test on others"
    )
    edge = ""
    if len(tried) > 1 and coefficient in (min(tried), max(tried)):
        side, further = ("least", "lower") if coefficient == min(tried) else ("most", "higher")
        edge = f", the {side} that was tried; try {further} ones with --coefficients"
    sure = ", ".join(f"{task}: {_how_sure(bench, task, count)}" for task, count in counts.items())
    return "\n".join(
        [
            f"tl: {said} of {counted(len(lost), 'task')}: {out}",
            f"tl: {bench.metric} by coefficient: {searched}; {coefficient:g} is taken{edge}",
            *aligned([["task", *columns], *rows]),
            f"tl: validation data: {sure}",
            verdict,
        ]
    )


def _how_sure(bench: Bench, name: str, count: int) -> str:
    """Say how many samples a score is of, and its standard error where it is a share of them."""
    task = bench.module.tasks[name]
    if task.on_pixels or not task.counts_samples:
        return f"{count:,} labels"
    said = counted(count, "sample")
    if task.accuracy is None or task.score != task.accuracy or not count:
        return said
    return f"{said} (standard error up to {0.5 / math.sqrt(count):.4f})"
