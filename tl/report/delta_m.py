"""Delta_m: the gain or loss of a multi-task model over one network per task."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from tl.report.intervals import Interval, mean_interval

#: The score of a task, or several by name.
Scores = float | Mapping[str, float]


def delta_m(
    values: Mapping[str, Scores],
    baselines: Mapping[str, Scores],
    lower_is_better: Collection[str] = (),
) -> float:
    """Return the mean relative change over the tasks with respect to single-task baselines.

    ``1 / T sum_i (-1)^(l_i) (M_i - B_i) / B_i`` (Maninis et al., 2019, equation 4; Vandenhende et
    al., 2021, equation 10); ``l_i`` is 1 where a lower value is better. Negative values are
    negative transfer. Of a task with several scores, the changes of these are averaged first, so
    that each task counts the same.

    Args:
        values: Score of the multi-task model by task, or scores by task and name.
        baselines: The same scores of a network trained on that task alone.
        lower_is_better: Tasks whose scores are errors, or ``task/score`` of one of several.

    Returns:
        A fraction: 0.02 is 2 % better than the baselines on average.

    Raises:
        ValueError: If the tasks or scores differ, or a baseline is not positive: relative to a
            negative score, as R2 can be, a gain would count as a loss.
    """
    if set(values) != set(baselines):
        raise ValueError(
            f"The model has the tasks {', '.join(values)}, the baselines {', '.join(baselines)}."
        )
    reached, alone = _by_score(values), _by_score(baselines)
    for task in values:
        if set(reached[task]) != set(alone[task]):
            raise ValueError(
                f"The model has the scores {', '.join(reached[task])} of {task!r}, the baseline "
                f"{', '.join(alone[task])}."
            )
    known = {*values, *(f"{task}/{score}" for task in values for score in reached[task])}
    if unknown := set(lower_is_better) - known:
        raise ValueError(
            f"`lower_is_better` names {', '.join(sorted(unknown))}, which is not a task."
        )
    changes = []
    for task, scores in reached.items():
        each = []
        for score, value in scores.items():
            base = alone[task][score]
            if not (base > 0 and math.isfinite(base)):
                name = f"{task}/{score}" if score else task
                raise ValueError(
                    f"Delta_m needs positive scores, and the baseline of {name!r} is {base:.4g}; "
                    "compare another score, such as mae or rmse in place of r2."
                )
            sign = -1 if {task, f"{task}/{score}"} & set(lower_is_better) else 1
            each.append(sign * (value - base) / base)
        changes.append(sum(each) / len(each))
    return sum(changes) / len(changes)


def delta_m_interval(
    values: Sequence[Mapping[str, Scores]],
    baselines: Sequence[Mapping[str, Scores]],
    lower_is_better: Collection[str] = (),
) -> Interval:
    """Return Delta_m over seeds, comparing each run with the baselines of its own seed.

    Args:
        values: Scores of the multi-task runs as for :func:`delta_m`, one mapping per seed.
        baselines: Scores of the single-task runs, for the same seeds in the same order.
        lower_is_better: As for :func:`delta_m`.

    Raises:
        ValueError: If the numbers of seeds differ, or as :func:`delta_m`.
    """
    if len(values) != len(baselines):
        raise ValueError(f"There are {len(values)} runs and {len(baselines)} baselines.")
    pairs = zip(values, baselines, strict=True)
    return mean_interval([delta_m(value, base, lower_is_better) for value, base in pairs])


def _by_score(values: Mapping[str, Scores]) -> dict[str, Mapping[str, float]]:
    """Return scores by task and name; the only one of a task has none."""
    return {t: v if isinstance(v, Mapping) else {"": v} for t, v in values.items()}
