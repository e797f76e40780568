"""Read finished runs: intervals, tables, plots."""

from tl.report.against_single import AgainstSingle, against_single
from tl.report.delta_m import delta_m, delta_m_interval
from tl.report.intervals import Interval, mean_interval
from tl.report.tested import TestedRun, find_tested, read_tested

__all__ = [
    "AgainstSingle",
    "Interval",
    "TestedRun",
    "against_single",
    "delta_m",
    "delta_m_interval",
    "find_tested",
    "mean_interval",
    "read_tested",
]
