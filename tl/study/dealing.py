"""Who runs what: each run is taken by one worker, and given out again when that one is gone."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tl.study.folders import RunFolders, State
from tl.study.points import Point

if TYPE_CHECKING:
    import optuna

Outcome = Literal["ended", "busy", "stopped"]
AHEAD = 4  # runs that lie ready to be taken
SILENT = 600.0  # seconds after which a worker elsewhere is gone
_UNCLAIMED = 60.0  # seconds from a run's being taken to its worker's name
_POLL = 0.5


class _Stopped(Exception):  # noqa: N818 - not an error
    """A worker was told to stop while a run was under way."""


@dataclass(frozen=True)
class Progress:
    """Where the runs of a study are.

    Args:
        states: State by name.
        blocked: Failed runs that a run waits for in vain, by name.
        ready: Runs whose needs are met.
    """

    states: Mapping[str, State]
    blocked: Mapping[str, str]
    ready: tuple[Point, ...]

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to run."""
        return all(
            state != "unfinished" or name in self.blocked for name, state in self.states.items()
        )


def progress_of(points: Mapping[str, Point], folders: RunFolders) -> Progress:
    """Read from the run folders how far a study is."""
    return progress_at(points, {name: folders.state(point) for name, point in points.items()})


def progress_at(points: Mapping[str, Point], states: Mapping[str, State]) -> Progress:
    """Tell from the states of a study's runs which ones can run, and which never will."""
    blocked: dict[str, str] = {}
    ready = []
    for name, point in points.items():  # those that are needed come first
        if states[name] != "unfinished":
            continue
        trials = [other for key, other in point.needs.items() if key.startswith("trial ")]
        runs = [other for key, other in point.needs.items() if not key.startswith("trial ")]
        bad = [other for other in runs if states[other] == "failed" or other in blocked]
        over = [other for other in trials if states[other] != "unfinished" or other in blocked]
        if trials and len(over) == len(trials) and not any(states[o] == "done" for o in trials):
            bad.append(trials[0])
        if bad:
            blocked[name] = bad[0]
        elif all(states[other] == "done" for other in runs) and len(over) == len(trials):
            ready.append(point)
    return Progress(states, blocked, tuple(ready))


def deal(  # noqa: C901 - a loop and what it does with an offer
    study: optuna.Study,
    points: Mapping[str, Point],
    folders: RunFolders,
    run: Callable[[Point], Outcome],
    is_stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Take one run after another until none is left.

    A run may be offered twice when two processes look at once; the offer with the lowest number
    counts. Whoever takes it also holds the lock of its folder, so no run is under way twice.

    Args:
        study: Optuna's study, which other processes share.
        points: The runs by name.
        folders: Their folders, which tell what is done.
        run: Runs one, and records in its folder how it ended.
        is_stopped: Tells whether to take no more.
    """
    import optuna  # noqa: PLC0415 - an extra

    taken: list[int] = []
    waiting, running = optuna.trial.TrialState.WAITING, optuna.trial.TrialState.RUNNING

    def objective(trial: optuna.Trial) -> float:
        point = points.get(trial.user_attrs.get("point", ""))
        if point is None:
            raise optuna.TrialPruned  # invented by the sampler when another took the last offer
        others = study.get_trials(deepcopy=False, states=(waiting, running))
        if any(o.user_attrs.get("point") == point.name and o.number < trial.number for o in others):
            raise optuna.TrialPruned
        taken[:] = [trial.number]
        trial.set_user_attr("worker", identity())
        if folders.state(point) == "unfinished":
            outcome = run(point)
            if outcome == "stopped":
                raise _Stopped
            if outcome == "busy":
                time.sleep(_POLL)  # its worker was given up too early, or has just ended
                raise optuna.TrialPruned
        return 0.0

    while not is_stopped():
        progress = progress_of(points, folders)
        if progress.is_over:
            return
        _release(study, points, folders)
        live = study.get_trials(deepcopy=False, states=(waiting, running))
        offered = {trial.user_attrs.get("point") for trial in live}
        if not any(trial.state == waiting for trial in live):
            free = (p for p in progress.ready if p.name not in offered and not _is_held(p, folders))
            for point in itertools.islice(free, AHEAD):
                study.enqueue_trial({}, user_attrs={"point": point.name})
                offered.add(point.name)
            live = study.get_trials(deepcopy=False, states=(waiting,))
        if any(trial.state == waiting for trial in live):
            try:
                study.optimize(objective, n_trials=1, catch=(_Stopped,))
            except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
                # SQLite may give one offer to two processes: the folder's lock lets one of them run
                # it, and the other one cannot tell how it ended, for it has ended already or ends
                # while that is looked up
                if not _has_ended(study, taken):
                    raise
        else:
            time.sleep(_POLL)  # for what others run


def _has_ended(study: optuna.Study, numbers: Sequence[int]) -> bool:
    """Tell whether a process has told how trials ended."""
    ended = {
        trial.number for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()
    }
    return bool(numbers) and ended.issuperset(numbers)


def _release(study: optuna.Study, points: Mapping[str, Point], folders: RunFolders) -> None:
    """Give up runs whose worker is gone."""
    import optuna  # noqa: PLC0415 - an extra

    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        worker = str(trial.user_attrs.get("worker", ""))
        point = points.get(trial.user_attrs.get("point", ""))
        if worker:
            gone = _is_gone(worker, folders, point)
        else:
            started = trial.datetime_start or datetime.now()  # noqa: DTZ005 - as Optuna writes it
            gone = (datetime.now() - started).total_seconds() > _UNCLAIMED  # noqa: DTZ005
        if gone:
            # another process may give it up while this one looks
            with suppress(optuna.exceptions.UpdateFinishedTrialError):
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)


def _is_held(point: Point, folders: RunFolders) -> bool:
    """Tell whether a process runs a point, whatever the storage says."""
    with folders.locked(point) as lock:
        return lock is None


def _is_gone(worker: str, folders: RunFolders, point: Point | None) -> bool:
    host, pid, started = worker.rsplit(":", 2)
    if host == socket.gethostname():
        return _start_of(int(pid)) != started
    return point is None or folders.silence(point) > SILENT


def identity() -> str:
    """Name this process as no other one ever is: host, process id and start time."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start_of(os.getpid())}"


def _start_of(pid: int) -> str:
    """Return when a process began, in the kernel's ticks; empty if it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return "" if Path("/proc/self").exists() else _alive_elsewhere(pid)
    state, *rest = text.rpartition(")")[2].split()
    return "" if state == "Z" else rest[18]


def _alive_elsewhere(pid: int) -> str:
    """Tell whether a process lives where there is no /proc."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:  # another user's
        pass
    return "alive"
