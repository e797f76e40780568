"""Reads finished runs: intervals, tables, plots."""

from tl.report.delta_m import delta_m, delta_m_interval
from tl.report.intervals import Interval, mean_interval

__all__ = ["Interval", "delta_m", "delta_m_interval", "mean_interval"]
