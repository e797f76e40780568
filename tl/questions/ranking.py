"""Sources ranked for a target by scores of their features."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from tl.data.images.decoding import Size
from tl.data.progress import progress
from tl.questions.candidates import Candidate, check_different, check_modality
from tl.questions.columns import columns_of
from tl.questions.features import features_of, seen_of
from tl.questions.measured import Agreement, Measured, agreement
from tl.questions.resampling import RESAMPLES, Score, rank_ranges, ranks, resampled_rows
from tl.questions.samples import Samples
from tl.questions.target import Target, chosen_task, places_of, target_of

Order = Literal["knn", "probe", "logme", "h_score", "leep"]
#: Scores of features, the default order first; then what needs no features.
SCORES: tuple[Order, ...] = ("knn", "probe", "logme", "h_score", "leep")
CONTROLS = ("accuracy", "parameters")


@dataclass(frozen=True)
class Ranked:
    """A source in a ranking.

    Args:
        name: The source.
        lineage: Where it comes from.
        scores: Score by column; NaN where it is not defined.
        rank: Its rank, from 1; ``None`` where the score it is ranked by is not defined.
        low: Its best rank in 95 % of the resamples.
        high: Its worst.
        sha256: Hash of its file, or ``None``.
        measured: Measured result, if one is known.
    """

    name: str
    lineage: str
    scores: Mapping[str, float]
    rank: int | None
    low: int
    high: int
    sha256: str | None = None
    measured: float | None = None

    def overlaps(self, other: Ranked) -> bool:
        """Return whether the ranges of two sources overlap: they are not set apart."""
        if self.rank is None or other.rank is None:
            return False
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Ranking:
    """Sources ranked for a target.

    Args:
        sources: The sources, the best first.
        order: Column they are ranked by.
        task: Task of the target.
        samples: Number of samples.
        classes: Number of classes; ``None`` for numbers.
        neighbours: Neighbours of kNN.
        resamples: Number of resamples.
        agreements: Agreement of each column with measured results.
        measured: What was measured, if it is known.
        about: Name, kind and fingerprint of the target's data, and the split.
    """

    sources: tuple[Ranked, ...]
    order: Order
    task: str
    samples: int
    classes: int | None
    neighbours: int
    resamples: int
    agreements: tuple[Agreement, ...] = field(default=())
    measured: Measured | None = None
    about: Mapping[str, str] = field(default_factory=dict)


def rank(
    candidates: Sequence[Candidate],
    samples_at: Callable[[Size | None], Samples],
    task: str | None = None,
    *,
    order: Order = "knn",
    neighbours: int = 10,
    resamples: int = RESAMPLES,
    measured: Measured | Mapping[str, float] | None = None,
    about: Mapping[str, str] | None = None,
    seed: int = 0,
    cache: Path | None = None,
) -> Ranking:
    """Rank sources for a target.

    No sample is judged by itself: neighbours and probe leave it out (of a dense task: all positions
    of its image). Classes are answered by the share of correct ones, numbers by the share of their
    variance (R2).

    Args:
        candidates: Two sources or more.
        samples_at: Returns the samples of the target at an image size; the same ones in the same
            order.
        task: Task of the target, if it has several.
        order: Column to rank by.
        neighbours: Neighbours of kNN.
        resamples: Resamples of the samples, for the ranges.
        measured: Results of fine-tuning by name of the source; of plain numbers more is better.
        about: What the samples are of, see :func:`tl.questions.about.about_data`.
        seed: Of the resamples.
        cache: Folder of the features.

    Raises:
        ValueError: If there is a single source, one has another modality or features that are not
            finite, or `order` is not defined for this task.
    """
    if len(candidates) < 2:  # noqa: PLR2004 - a ranking compares
        raise ValueError(
            f"A ranking compares sources, got {len(candidates)}; name two or more, such as an "
            "earlier run and torchvision:resnet18."
        )
    check_different(candidates)
    within = _seen_by_all(candidates, samples_at, task)
    columns: list[dict[str, Score]] = []
    target: Target | None = None
    for candidate in progress(candidates, len(candidates), "Features of sources", least=2):
        samples = samples_at(candidate.size)
        chosen = chosen_task([*samples.tasks.values()], task)
        found = features_of(
            candidate.network, samples, places=places_of(chosen), within=within, cache=cache
        )
        if not bool(found.features.isfinite().all()):
            raise ValueError(f"{candidate.name} has features that are not finite; leave it out.")
        target = target_of(samples, chosen, found.places)
        columns.append(columns_of(found, target, neighbours))
    if target is None or not any(order in each for each in columns):
        raise ValueError(
            f"{order} is not defined for this target and these sources; choose --order from "
            f"{', '.join(dict.fromkeys(name for each in columns for name in each))}."
        )
    if measured is not None and not isinstance(measured, Measured):
        measured = Measured(measured)
    values = {} if measured is None else measured.values
    ranked = _ranked(candidates, columns, order, target, resamples, seed, values)
    last = len(ranked) + 1
    return Ranking(
        sources=tuple(sorted(ranked, key=lambda each: (each.rank or last, each.name))),
        order=order,
        task=target.task,
        samples=len(torch.unique(target.rows)),
        classes=None if target.labels is None else target.values.shape[1],
        neighbours=neighbours,
        resamples=resamples,
        agreements=agreements_of(
            ranked, lower_is_better=measured is not None and measured.lower_is_better
        ),
        measured=measured,
        about=about or {},
    )


def _seen_by_all(
    candidates: Sequence[Candidate],
    samples_at: Callable[[Size | None], Samples],
    task: str | None,
) -> tuple[float, float]:
    """Return the fractions of height and width that all sources see, for dense tasks."""
    seen = [(1.0, 1.0)]
    for candidate in candidates:
        samples = samples_at(candidate.size)
        check_modality(candidate, samples)
        if places_of(chosen_task([*samples.tasks.values()], task)):
            items = samples.items(torch.arange(1))
            seen.append(seen_of(items[0], candidate.network.read(items)))
    heights, widths = zip(*seen, strict=True)
    return min(heights), min(widths)


def _ranked(
    candidates: Sequence[Candidate],
    columns: Sequence[Mapping[str, Score]],
    order: Order,
    target: Target,
    resamples: int,
    seed: int,
    measured: Mapping[str, float],
) -> list[Ranked]:
    def nothing(_: Tensor | None) -> float:
        return math.nan

    by = [each.get(order, nothing) for each in columns]
    whole = [score(None) for score in by]
    scored = [number for number, value in enumerate(whole) if not math.isnan(value)]
    places = ranks(torch.tensor([whole[n] for n in scored], dtype=torch.float64)).tolist()
    drawn = resampled_rows(target.rows, resamples, seed)
    told = progress(drawn, len(drawn), "Scores of resamples", least=2)
    ranges = rank_ranges([by[number] for number in scored], told)
    at = {n: (p, *both) for n, p, both in zip(scored, places, ranges, strict=True)}
    found = []
    for number, (candidate, column) in enumerate(zip(candidates, columns, strict=True)):
        place, low, high = at.get(number, (None, 0, 0))
        values = ((name, column.get(name, nothing)) for name in SCORES)
        scores: dict[str, float] = {name: score(None) for name, score in values}
        scores["accuracy"] = math.nan if candidate.accuracy is None else candidate.accuracy
        scores["parameters"] = float(candidate.parameters)
        found.append(
            Ranked(
                candidate.name,
                candidate.lineage,
                scores,
                place,
                low if place is None else min(low, place),
                high if place is None else max(high, place),
                candidate.sha256,
                measured.get(candidate.name),
            )
        )
    return found


def agreements_of(
    sources: Sequence[Ranked], *, lower_is_better: bool = False
) -> tuple[Agreement, ...]:
    """Return how each column agrees with what was measured, for sources with both."""
    sign = -1 if lower_is_better else 1
    known = [e for e in sources if e.measured is not None and math.isfinite(e.measured)]
    found = []
    for name in (*SCORES, *CONTROLS) if known else ():
        both = [each for each in known if not math.isnan(each.scores[name])]
        if len(both) >= 2:  # noqa: PLR2004 - a correlation needs a pair
            results = [sign * (each.measured or 0.0) for each in both]
            found.append(agreement(name, [each.scores[name] for each in both], results))
    return tuple(found)
