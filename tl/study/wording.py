"""Numbers, rows and axes as a report writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl.report.intervals import SHARES, Interval
from tl.study.cells import DELTA, score_of


def number(interval: Interval | None, metric: str, *, signed: bool = False) -> str:
    """Write a mean with its interval, shares in percent."""
    if interval is None:
        return "-"
    sign = "+" if signed else ""
    if is_share(metric):
        return interval.percent(signed=signed)
    spread = f"± {interval.half_width:.3g}" if interval.count > 1 else "(one run)"
    return f"{interval.mean:{sign}z.4g} {spread}"


def scaled(value: float, metric: str) -> float:
    """Return a share in percent, anything else as it is."""
    return 100 * value if is_share(metric) else value


def unit(metric: str) -> str:
    """Return the unit behind a metric's name."""
    return ", %" if is_share(metric) else ""


def is_share(metric: str) -> bool:
    """Tell whether a metric is written in percent."""
    return score_of(metric).lower() in (*SHARES, DELTA.lower())


def short(axis: str) -> str:
    """Return the last word of a dotted name."""
    return axis.rsplit(".", 1)[-1].replace("_", " ")


def escaped(value: object) -> str:
    """Write a value for a cell of a Markdown table."""
    return " ".join(str(value).split()).replace("|", "\\|")


def name_of(row: Mapping[str, Any]) -> str:
    """Name a row by its values."""
    return ", ".join(
        str(value) if isinstance(value, str) else f"{short(axis)} {value}"
        for axis, value in row.items()
    )


def amount(value: float, metric: str) -> str:
    """Write a difference, of shares in points."""
    return f"{100 * value:.1f} points" if is_share(metric) else f"{value:.3g}"
