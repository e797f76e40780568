"""Scores under shifts: a table, a figure, and what the mean leaves out."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl.counting import counted
from tl.reading import read_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)
#: Images of the shelf are JPEG already: the mean would be too kind.
LEFT_OUT = ("jpeg",)
_DPI = 120


@dataclass(frozen=True)
class ShiftScores:
    """Test scores of one task by shift and severity.

    Args:
        task: Name of the task.
        score: Name of the score.
        higher_is_better: Whether a higher score is better.
        count: Number of test images with a target.
        share: Whether the score is the share of right answers, shown in percent.
        clean: The score on test images as they are.
        severities: The severities.
        values: By shift, a score per severity.
        by_pixel: Whether answers are counted by pixel: those of an image are not independent, so
            that their number does not tell how sure a share is.
    """

    task: str
    score: str
    higher_is_better: bool
    count: int
    share: bool
    clean: float
    severities: Sequence[int]
    values: Mapping[str, Sequence[float]]
    by_pixel: bool = False

    def mean(self, severity: int | None = None) -> float:
        """Return the mean over shifts, of one severity or of all, without those left out."""
        kept = [s for name, s in self.values.items() if name not in LEFT_OUT]
        pairs = [zip(self.severities, s, strict=True) for s in kept or self.values.values()]
        some = [value for each in pairs for at, value in each if severity in (None, at)]
        return sum(some) / len(some)

    def table(self) -> str:
        """Return a row per shift, and what they say together, as Markdown."""
        heads = [*map(str, self.severities), "mean"]
        lines = [
            f"| {self.task} {self.score}{', %' if self.share else ''} | {' | '.join(heads)} |",
            f"| --- |{' ---: |' * len(heads)}",
        ]
        for name, scores in self.values.items():
            row = [*scores, sum(scores) / len(scores)]
            mark = " (not in the mean)" if name in LEFT_OUT and len(self.values) > 1 else ""
            lines.append(f"| {name}{mark} | {' | '.join(map(self._said, row))} |")
        if len(self.values) > 1:
            means = [*map(self.mean, self.severities), self.mean()]
            lines.append(f"| mean | {' | '.join(map(self._said, means))} |")
        return "\n".join([*lines, "", self.sentence()])

    def sentence(self) -> str:
        """Return in a sentence what the shifts cost, and how sure that is."""
        kept = {n: v for n, v in self.values.items() if n not in LEFT_OUT} or self.values
        by_shift = {name: sum(scores) / len(scores) for name, scores in kept.items()}
        worst = (min if self.higher_is_better else max)(by_shift, key=lambda name: by_shift[name])
        unit = " %" if self.share else ""
        worse = f"; the worst is {worst} with {self._said(by_shift[worst])}{unit}"
        worse = worse if len(kept) > 1 else f", {worst}"
        text = (
            f"{self.task}: {self.score} {self._said(self.clean)}{unit} on clean images and "
            f"{self._said(self.mean())}{unit} under {counted(len(kept), 'shift')}{worse}"
        )
        of = counted(self.count, "image")
        if self.share and not self.by_pixel:
            error = 100 * 0.5 / math.sqrt(self.count)
            return f"{text} (one model, {of}: standard error up to {error:.1f})."
        return f"{text} (one model, {of})."

    def _said(self, value: float) -> str:
        return f"{100 * value:.1f}" if self.share else f"{value:.4g}"

    def record(self) -> dict[str, Any]:
        """Return everything in plain types."""
        return {
            "score": self.score,
            "higher_is_better": self.higher_is_better,
            "count": self.count,
            "clean": self.clean,
            "mean": self.mean(),
            "not_in_mean": [n for n in self.values if n in LEFT_OUT and len(self.values) > 1],
            "severities": list(self.severities),
            "shifts": {name: list(scores) for name, scores in self.values.items()},
        }


def figure(found: Sequence[ShiftScores]) -> Figure:
    """Draw each task's score over the severity, a line per shift."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - only where it is drawn

    drawn = Figure(figsize=(7.5, 4.2 * len(found)), layout="constrained")
    axes = drawn.subplots(len(found), 1, squeeze=False)[:, 0]
    for axis, each in zip(axes, found, strict=True):
        scale = 100 if each.share else 1
        for number, (name, scores) in enumerate(each.values.items()):
            style = ("-", "--", ":")[number // 10 % 3]
            values = [scale * value for value in scores]
            axis.plot(
                each.severities, values, style, color=f"C{number % 10}", marker=".", label=name
            )
        axis.axhline(scale * each.clean, color="black", linewidth=1, label="clean")
        axis.set_xticks(list(each.severities))
        axis.set_xlabel("severity")
        axis.set_ylabel(f"{each.task} {each.score}{', %' if each.share else ''}")
        axis.legend(fontsize=7, ncols=1, loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def with_earlier(
    found: Sequence[ShiftScores], file: Path, about: Mapping[str, Any]
) -> list[ShiftScores]:
    """Return scores with those of an earlier test of the same weights under other shifts.

    Args:
        found: Scores by task.
        file: What the earlier test wrote, if there was one.
        about: As for :func:`write`; an earlier file may lack some of it.

    Returns:
        The scores alone, after a warning, if the earlier test differs in checkpoint, adaptation,
        number of images, severities or the score on clean images.
    """
    try:
        earlier = json.loads(read_text(file))
        tasks = earlier["tasks"]
        same = all(earlier.get(key, value) == value for key, value in about.items()) and all(
            tasks[each.task][key] == value
            for each in found
            for key, value in each.record().items()
            if key in ("score", "count", "clean", "severities")
        )
        before = {each.task: dict(tasks[each.task]["shifts"]) for each in found} if same else {}
    except (OSError, ValueError, KeyError, TypeError):  # none, or not one of ours
        same, before = not file.exists(), {}
    if not same:
        _log.warning("%s is from another test and will be replaced.", file)
    return [replace(each, values={**before.get(each.task, {}), **each.values}) for each in found]


def write(
    found: Sequence[ShiftScores], folder: Path, name: str, about: Mapping[str, Any]
) -> list[Path]:
    """Write scores as JSON and as a figure.

    Args:
        found: Scores by task.
        folder: Where to.
        name: Name of the files without their ending.
        about: What else to record: checkpoint, adaptation, data, seed and replaced shifts.

    Returns:
        The files.
    """
    record = {**about, "tasks": {each.task: each.record() for each in found}}
    paths = [folder / f"{name}.json", folder / f"{name}.png"]
    paths[0].write_text(json.dumps(record, indent=2) + "\n")
    figure(found).savefig(paths[1], dpi=_DPI)
    return paths
