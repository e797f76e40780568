"""Means over seeds with confidence intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom (Student, 1908)
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
SHARES = ("acc", "accuracy", "miou", "iou", "f1", "map")  # scores written in percent


@dataclass(frozen=True)
class Interval:
    """A mean and the half-width of its 95 % confidence interval.

    Args:
        mean: Mean over the seeds.
        half_width: Half-width of the interval; ``inf`` for a single value, whose spread is unknown.
        count: Number of values.
    """

    mean: float
    half_width: float
    count: int

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval is negative: a loss that seeds alone do not explain."""
        return self.mean + self.half_width < 0

    def percent(self, *, signed: bool = False) -> str:
        """Format as percentages: ``42.1 +- 0.8``, a single value as ``42.1 (one run)``."""
        mean = f"{100 * self.mean:{'+' if signed else ''}z.1f}"
        spread = f"± {100 * self.half_width:.1f}" if self.count > 1 else "(one run)"
        return f"{mean} {spread}"


def finite(value: float) -> float | None:
    """Return a number as JSON has it: ``None`` if it is not finite."""
    return value if math.isfinite(value) else None


def mean_interval(values: Sequence[float]) -> Interval:
    """Return mean and 95 % confidence interval by Student's t: ``t * s / sqrt(n)``.

    Args:
        values: One value per seed.

    Raises:
        ValueError: If there are no values.
    """
    if not values:
        raise ValueError("There are no values to average.")
    if len(values) == 1:
        return Interval(values[0], math.inf, 1)
    t = _T[min(len(values) - 1, len(_T)) - 1]
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(statistics.fmean(values), half, len(values))
