"""Reads finished runs: intervals, tables, plots."""

from tl.report.intervals import Interval, mean_interval

__all__ = ["Interval", "mean_interval"]
