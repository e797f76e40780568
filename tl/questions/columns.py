"""The columns of a ranking: scores of a source as functions of rows, all or those of a resample."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tl.questions.features import Extracted
from tl.questions.logme import logme
from tl.questions.neighbours import directions, neighbour_means
from tl.questions.resampling import Score
from tl.questions.scores import h_score, leep, ridge_left_out
from tl.questions.target import Target


def columns_of(found: Extracted, target: Target, neighbours: int) -> dict[str, Score]:
    """Return the scores of a source's features by column.

    Values that are known in different rows, as of samples with some of their labels, are scored
    apart, each on its own rows; their mean is the score.

    Args:
        found: The features.
        target: What they are compared with.
        neighbours: Neighbours of kNN.
    """
    parts = [
        (part.values.shape[1], _positions(rows, len(target.rows)), _known(found, part, neighbours))
        for rows, part in target.by_known()
    ]
    if len(parts) == 1:
        return parts[0][2]

    def mean_of(name: str) -> Score:
        def score(rows: Tensor | None) -> float:
            total, count = 0.0, 0
            for size, at, scores in parts:
                drawn = None if rows is None else at(rows)
                value = math.nan if drawn is not None and not len(drawn) else scores[name](drawn)
                if not math.isnan(value):
                    total, count = total + size * value, count + size
            return total / count if count else math.nan

        return score

    return {name: mean_of(name) for name in parts[0][2]}


def _positions(rows: Tensor, count: int) -> Callable[[Tensor], Tensor]:
    """Return what turns rows of a target into positions in some of them, without the others."""
    places = torch.full((count,), -1)
    places[rows] = torch.arange(len(rows))

    def at(drawn: Tensor) -> Tensor:
        return places[drawn][places[drawn] >= 0]

    return at


def _known(found: Extracted, target: Target, neighbours: int) -> dict[str, Score]:
    """Return the scores of a target whose values are all known."""
    features = target.of(found.features).double()
    own = target.rows
    unit = directions(features)
    votes = neighbour_means(unit, unit, target.values, k=neighbours, groups=(own, own))
    columns: dict[str, Score] = {
        "knn": _answered(votes, target),
        "probe": _answered(ridge_left_out(features, target.values, target.groups), target),
        "logme": lambda rows: logme(_at(features, rows), _at(target.values, rows)),
    }
    labels = target.labels
    if labels is None:
        return columns
    columns["h_score"] = lambda rows: h_score(_at(features, rows), _at(labels, rows))
    if found.outputs:
        logits = [target.of(each) for each in found.outputs.values()]
        # of several heads, the one that tells most
        columns["leep"] = lambda rows: max(leep(_at(e, rows), _at(labels, rows)) for e in logits)
    return columns


def _at(values: Tensor, rows: Tensor | None) -> Tensor:
    return values if rows is None else values[rows]


def _answered(answers: Tensor, target: Target) -> Score:
    """Return the share of classes that are answered correctly, or of the variance of numbers."""
    if target.labels is not None:
        right = (answers.argmax(1) == target.labels).double()
        return lambda rows: float(_at(right, rows).mean())
    error = (answers - target.values).square()

    def explained(rows: Tensor | None) -> float:
        values = _at(target.values, rows)
        varies = values.max(0).values > values.min(0).values  # a resample may lack a rare label
        spread = (values - values.mean(0)).square().sum(0)
        return float((1 - _at(error, rows).sum(0) / spread)[varies].mean())

    return explained
