"""Options by search: each trial's values follow from the finished trials' run folders."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from tl.study.checks import key_of
from tl.study.folders import RunFolders
from tl.study.points import Point
from tl.study.schema import Range, Search

_RANDOM_FIRST = 4  # trials before TPE has anything to model


@dataclass(frozen=True)
class Trial:
    """A trial that has ended.

    Args:
        number: Its number among its method's.
        chosen: Its options.
        value: What it reached; ``None`` if it was pruned or failed.
        curve: Metric over steps.
    """

    number: int
    chosen: Mapping[str, Any]
    value: float | None
    curve: Sequence[tuple[int, float]] = ()


def trials_of(
    point: Point, points: Mapping[str, Point], folders: RunFolders, search: Search
) -> list[Trial]:
    """Read the ended trials of a point's method from their folders.

    Raises:
        ValueError: If a finished run does not log the search's metric.
    """
    found = []
    for other in points.values():
        if other.trial is None or other.group != point.group or other.stage != point.stage:
            continue
        state, chosen = folders.state(other), folders.chosen(other)
        if state == "unfinished" or not chosen:
            continue
        value = score(folders.results(other), search.metric) if state == "done" else None
        found.append(Trial(other.trial, chosen, value, folders.curve(other, search.metric)))
    return found


def score(results: Mapping[str, Any], metric: str) -> float | None:
    """Return a run's validation score, of its best checkpoint where it has one.

    Raises:
        ValueError: If the run does not log the metric.
    """
    best, metrics = results.get("best"), results.get("metrics") or {}
    if isinstance(best, Mapping):
        if best.get("monitor") == metric:
            return cast("float | None", best.get("score"))
        metrics = {**metrics, **(best.get("metrics") or {})}
    if metric not in metrics:
        raise ValueError(f"The run logs no {metric}; it logs {', '.join(sorted(metrics))}.")
    return cast("float | None", metrics[metric])


def propose(point: Point, trials: Sequence[Trial], search: Search) -> dict[str, Any]:
    """Choose a trial's options, the same ones for the same trials before.

    Args:
        point: The trial's run.
        trials: The ended trials of the same method.
        search: The search.
    """
    import optuna  # noqa: PLC0415 - an extra

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    text = f"{search.seed}/{point.group}/{point.trial}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    start = min(_RANDOM_FIRST, max(1, search.trials // 2))
    study = optuna.create_study(
        sampler=optuna.samplers.RandomSampler(seed)
        if search.sampler == "random"
        else optuna.samplers.TPESampler(seed=seed, n_startup_trials=start),
        direction="minimize" if search.lower_is_better else "maximize",
    )
    spaces: dict[str, optuna.distributions.BaseDistribution] = {
        option: optuna.distributions.FloatDistribution(given.low, given.high, log=given.log)
        if isinstance(given, Range)
        else optuna.distributions.CategoricalDistribution(given)
        for option, given in search.over.items()
    }
    states = optuna.trial.TrialState
    for trial in sorted(trials, key=lambda each: each.number):
        study.add_trial(
            optuna.trial.create_trial(
                params=dict(trial.chosen),
                distributions=spaces,
                value=trial.value if _counts(trial) else None,
                state=states.COMPLETE if _counts(trial) else states.FAIL,
            )
        )
    return dict(study.ask(spaces).params)


def should_prune(
    trials: Sequence[Trial],
    curve: Sequence[tuple[int, float]],
    search: Search,
) -> bool:
    """Tell whether a running trial is worse than the median of the others at the same step."""
    if not search.pruning or not curve:
        return False
    step, value = curve[-1]
    reached = [
        reach for trial in trials if (reach := _until(trial.curve, step, search)) is not None
    ]
    if len(reached) < _RANDOM_FIRST:
        return False
    middle = statistics.median(reached)
    so_far = _until(curve, step, search)
    best = value if so_far is None else so_far
    return best > middle if search.lower_is_better else best < middle


def choose(trials: Sequence[Trial], search: Search) -> dict[str, Any]:
    """Return the options of the best trial, the earlier one of equals.

    Raises:
        ValueError: If none has a score.
    """
    scored = [trial for trial in trials if _counts(trial)]
    if not scored:
        raise ValueError(f"None of {len(trials)} trials has a {search.metric}.")
    return dict(best_of(scored, search).chosen)


def best_of(scored: Sequence[Trial], search: Search) -> Trial:
    """Return the best of trials that have a score, the earlier one of equals."""
    sign = -1 if search.lower_is_better else 1
    return max(scored, key=lambda trial: (sign * (trial.value or 0.0), -trial.number))


@dataclass(frozen=True)
class Tuned:
    """What a search chose for a method.

    Args:
        values: Value by axis of the method.
        chosen: Its options.
        score: What the best trial reached on validation; ``None`` if none has a score.
        ended: Number of trials that have ended with a score.
    """

    values: Mapping[str, Any]
    chosen: Mapping[str, Any]
    score: float | None
    ended: int


def tuned_of(
    points: Mapping[str, Point], folders: RunFolders, search: Search | None
) -> list[Tuned]:
    """Return what a search has chosen, for each method whose trials have all ended."""
    if search is None:
        return []
    tried: dict[str, list[Point]] = {}
    for point in points.values():
        if point.trial is not None and point.stage == search.stage and point.group is not None:
            tried.setdefault(key_of(point.group), []).append(point)
    found = []
    for first, *others in tried.values():
        values = dict(zip(search.per, first.group or (), strict=True))
        if any(folders.state(point) == "unfinished" for point in (first, *others)):
            continue
        with suppress(ValueError):  # of a trial that does not log the metric
            scored = [t for t in trials_of(first, points, folders, search) if _counts(t)]
            best = best_of(scored, search) if scored else None
            chosen, score = (best.chosen, best.value) if best is not None else ({}, None)
            found.append(Tuned(values, chosen, score, len(scored)))
    return found


def _counts(trial: Trial) -> bool:
    return trial.value is not None and math.isfinite(trial.value)


def _until(curve: Sequence[tuple[int, float]], step: int, search: Search) -> float | None:
    values = [value for at, value in curve if at <= step]
    return (min(values) if search.lower_is_better else max(values)) if values else None
