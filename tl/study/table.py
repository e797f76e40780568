"""The live table of a study: what runs, how fast, when it will be done."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tl.reading import versions_in
from tl.report.finished_run import Curve, read_curves
from tl.study.dealing import progress_at
from tl.study.folders import RunFolders
from tl.study.points import Point

_EVERY = 1.0  # seconds between looks
_RECENT = 30.0  # seconds since a lock was touched by a worker that runs it


class StudyTable:
    """Shows where a study is: a table on a terminal, otherwise a line whenever a run ends.

    Args:
        points: The runs.
        folders: Their folders.
        workers: Runs at a time here.
        say: Where it goes.
    """

    def __init__(
        self, points: Mapping[str, Point], folders: RunFolders, workers: int, say: TextIO
    ) -> None:
        self.points, self.folders, self.workers = points, folders, workers
        self._console = Console(file=say)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._start = self._looked = time.monotonic()
        self._states = {name: folders.state(point) for name, point in points.items()}
        self._before = self._done()
        self._blocked = len(progress_at(points, self._states).blocked)

    def _done(self) -> int:
        return sum(state != "unfinished" for state in self._states.values())

    def __enter__(self) -> Self:
        """Start to show it."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Show the last of it."""
        self._looked = 0.0
        self.update()
        if self._console.is_terminal:
            self._live.stop()

    def update(self) -> None:
        """Look at the folders, at most once a second."""
        if time.monotonic() - self._looked < _EVERY:
            return
        self._looked = time.monotonic()
        for name, point in self.points.items():
            if self._states[name] != "unfinished":
                continue
            state = self.folders.state(point)
            if state != "unfinished":
                self._states[name] = state
                self._blocked = len(progress_at(self.points, self._states).blocked)
                self._line(name, point)
        if self._console.is_terminal:
            self._live.update(self.render(), refresh=True)

    def _line(self, name: str, point: Point) -> None:
        state = self._states[name]
        more = f": {self.folders.failure(point)}" if state == "failed" else ""
        self._console.print(
            f"{self._done()}/{len(self.points)} {point.title} {state}{more}; {self.remaining()}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def remaining(self) -> str:
        """Say when the study will be done, at the pace of the runs that ended here."""
        done = self._done()
        left, ended = len(self.points) - done - self._blocked, done - self._before
        waiting = f", {self._blocked} wait for a failed one" if self._blocked else ""
        if not left:
            return f"all others done{waiting}" if waiting else "all done"
        if not ended:
            return f"time left unknown{waiting}"
        return f"about {duration((time.monotonic() - self._start) / ended * left)} left{waiting}"

    def render(self) -> Table:
        """Draw the table."""
        table = Table(title=f"{self._done()} of {len(self.points)} runs ended; {self.remaining()}")
        for column in ("run", "for", "step", "samples/s"):
            table.add_column(column)
        for name, point in self.points.items():
            if self._states[name] != "unfinished" or self.folders.silence(point) > _RECENT:
                continue
            try:
                started = (self.folders.of(point) / "point.json").stat().st_mtime
            except OSError:
                continue  # its lock was looked at, and nobody has started it
            step, speed = _latest(self.folders.of(point))
            table.add_row(name, duration(time.time() - started), step, speed)
        return table


def duration(seconds: float) -> str:
    """Write seconds as people do: ``42 s``, ``5 min``, ``3 h 05 min``."""
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"  # noqa: PLR2004


def _latest(folder: Path) -> tuple[str, str]:
    """Return the last step and speed that a run has logged."""
    curves: dict[str, Curve] = {}
    for version in versions_in(folder, "metrics.csv")[-1:]:
        curves = read_curves(version / "metrics.csv")
    steps = [step for found, _ in curves.values() for step in found]
    speeds: Sequence[float] = ()
    for key in ("perf/images_per_second", "perf/samples_per_second"):
        speeds = curves[key][1] if key in curves else speeds
    return str(max(steps, default="")), f"{speeds[-1]:.0f}" if speeds else ""
