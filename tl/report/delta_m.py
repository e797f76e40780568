"""Delta_m: the gain or loss of a multi-task model over one network per task."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tl.report.intervals import Interval, mean_interval


def delta_m(
    values: Mapping[str, float],
    baselines: Mapping[str, float],
    lower_is_better: Collection[str] = (),
) -> float:
    """Return the mean relative change over the tasks with respect to single-task baselines.

    ``1 / T sum_i (-1)^(l_i) (M_i - B_i) / B_i`` (Maninis et al., 2019, equation 4; Vandenhende et
    al., 2021, equation 10); ``l_i`` is 1 where a lower value is better. Negative values are
    negative transfer.

    Args:
        values: Metric of the multi-task model by task.
        baselines: The same metric of a network trained on that task alone.
        lower_is_better: Tasks whose metric is an error.

    Returns:
        A fraction: 0.02 is 2 % better than the baselines on average.

    Raises:
        ValueError: If the tasks differ or a baseline is 0.
    """
    if set(values) != set(baselines):
        raise ValueError(
            f"The model has the tasks {', '.join(values)}, the baselines {', '.join(baselines)}."
        )
    if unknown := set(lower_is_better) - set(values):
        raise ValueError(
            f"`lower_is_better` names {', '.join(sorted(unknown))}, which is not a task."
        )
    changes = []
    for task, value in values.items():
        base = baselines[task]
        if base == 0:
            raise ValueError(
                f"The baseline of {task!r} is 0; a relative change needs a nonzero one."
            )
        sign = -1 if task in lower_is_better else 1
        changes.append(sign * (value - base) / base)
    return sum(changes) / len(changes)


def delta_m_interval(
    values: Sequence[Mapping[str, float]],
    baselines: Sequence[Mapping[str, float]],
    lower_is_better: Collection[str] = (),
) -> Interval:
    """Return Delta_m over seeds, comparing each run with the baselines of its own seed.

    Args:
        values: Metrics of the multi-task runs by task, one mapping per seed.
        baselines: Metrics of the single-task runs by task, for the same seeds in the same order.
        lower_is_better: Tasks whose metric is an error.

    Raises:
        ValueError: If the numbers of seeds differ, or as :func:`delta_m`.
    """
    if len(values) != len(baselines):
        raise ValueError(f"There are {len(values)} runs and {len(baselines)} baselines.")
    pairs = zip(values, baselines, strict=True)
    return mean_interval([delta_m(value, base, lower_is_better) for value, base in pairs])
