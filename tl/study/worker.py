"""A worker of a study: takes runs and has each trained and tested in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType

from tl.study import launcher
from tl.study.cells import is_reported
from tl.study.dealing import Outcome, deal
from tl.study.definition import difference_to
from tl.study.folders import RunFolders
from tl.study.merging import argument, hash_of, merged
from tl.study.points import REFERENCE, Point, points_of
from tl.study.searching import choose, propose, should_prune, trials_of
from tl.study.storage import open_study
from tl.study.task import Task

_POLL, _TOUCH = 0.1, 5.0  # seconds
_FULL = 1_000_000  # bytes that are left on a full disk
_KILLED = 3  # times that a run may be killed, as by the kernel for memory, before it has failed


class StudyChangedError(Exception):
    """What a study asks for was changed while it ran."""


class UnloggedError(Exception):
    """The report asks for a metric that the first of its runs does not log."""


class Worker:
    """Runs points of a study.

    Args:
        task: What it is told.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.study = task.study()
        self.points = points_of(self.study)
        self.folders = RunFolders(Path(task.out))
        if changed := difference_to(self.points, self.folders.out):
            raise StudyChangedError(f"{task.file} was changed while its study ran: {changed}")
        self.stopped = False
        self._process: subprocess.Popen[bytes] | None = None

    def stop(self, number: int, frame: FrameType | None = None) -> None:
        """Take no more runs, and let the one under way save itself."""
        self.stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def work(self) -> None:
        """Take runs until none is left."""
        shared = open_study(self.study.name, self.folders.out, self.task.storage)
        deal(shared, self.points, self.folders, self.run, lambda: self.stopped)

    def run(self, point: Point) -> Outcome:
        """Train and test a run, and record in its folder how it ended."""
        with self.folders.locked(point) as lock:
            if lock is None:
                return "busy"
            if self.folders.state(point) != "unfinished":
                return "ended"
            self._check_file()
            try:
                error = self._train_and_test(point, lock)
            except (OSError, ValueError) as found:
                error = f"{found}"
            if self.stopped and self.folders.state(point) == "unfinished":
                return "stopped"
            if error is not None:
                self.folders.write(point, "failed.json", {"error": error})
            return "ended"

    def _check_file(self) -> None:
        """Refuse a study file that was changed since the study was started.

        Raises:
            StudyChangedError: If it asks for other runs.
        """
        try:
            now = self.task.study()
            same = (now.stages, now.search) == (self.study.stages, self.study.search)
            changed = "" if same else difference_to(points_of(now), self.folders.out)
        except ValueError as error:
            changed = str(error)
        if changed:
            raise StudyChangedError(f"{self.task.file} was changed while its study ran: {changed}")

    def _train_and_test(self, point: Point, lock: int) -> str | None:
        """Return why it failed, or ``None``."""
        chosen = self._chosen(point)
        record = {
            "hash": point.hash,
            "stage": point.stage,
            "values": dict(point.values),
            "trial": point.trial,
            "chosen": chosen,
            "configs": list(point.configs),
            "options": dict(point.options),
        }
        self.folders.write(point, "point.json", record)
        given = [*self._arguments(replace(point, options={**point.options, **chosen}))]
        for _ in range(2):
            if self.folders.is_trained(point):
                break
            if error := self._command(point, "fit", [*given, "--resume=auto"], lock):
                return error
            if self.stopped or (self.folders.of(point) / "pruned.json").exists():
                return None
            if not self.folders.is_trained(point):
                # killed after its last checkpoint and before its results: only those are missing
                for version in self.folders.of(point).glob("version_*"):
                    shutil.rmtree(version)
        if point.trial is not None:
            return self._missing(point, self.study.search.metric if self.study.search else "")
        if error := self._command(point, "test", given, lock):
            return error
        return self._unlogged(point)

    def _unlogged(self, point: Point) -> str | None:
        """Return which reported metric a run does not log.

        Raises:
            UnloggedError: If no other run logs it: it is the study that is wrong, not the run.
        """
        if self.stopped or not is_reported(self.study, point):
            return None
        others = [p for p in self.points.values() if is_reported(self.study, p) and p is not point]
        for metric in self.study.report.metrics:
            if (error := self._missing(point, metric)) is None:
                continue
            if not any(metric in (self.folders.results(p).get("metrics") or {}) for p in others):
                raise UnloggedError(
                    f"{point.title} is done, and {error} Correct `report.metric`, or leave out "
                    "rows that lack it, and start the study again; what is trained is kept"
                )
            return error
        return None

    def _missing(self, point: Point, metric: str) -> str | None:
        metrics = self.folders.results(point).get("metrics") or {}
        if metric in metrics or self.stopped:
            return None
        near = [name for name in metrics if name.startswith(metric.split("/", maxsplit=1)[0])]
        return f"it logs no {metric}; it logs {', '.join(sorted(near or metrics)) or 'nothing'}."

    def _chosen(self, point: Point) -> dict[str, object]:
        search = self.study.search
        if search is None or point.group is None:
            return {}
        if kept := self.folders.chosen(point):
            return kept  # of the trial that was cut off
        trials = trials_of(point, self.points, self.folders, search)
        return choose(trials, search) if point.trial is None else propose(point, trials, search)

    def _arguments(self, point: Point) -> list[str]:
        def best(name: str) -> str:
            return str(self.folders.best(self.points[point.needs[name]]))

        def filled(value: object) -> object:
            if isinstance(value, str):
                return REFERENCE.sub(lambda found: best(found.group(1)), value)
            if isinstance(value, Mapping):
                return {name: filled(part) for name, part in value.items()}
            return [*map(filled, value)] if isinstance(value, list) else value

        given = [word for config in point.configs for word in ("--config", config)]
        for key, value in point.options.items():
            given.append(argument(key, filled(value)))
        *_, stage, name = self.folders.of(point).parts
        return [
            *given,
            f"--log_dir={self.folders.out / stage}",
            f"--name={name}",
            "--trainer.enable_progress_bar=false",
        ]

    def _command(self, point: Point, verb: str, given: list[str], lock: int) -> str | None:
        """Run a command to its end; return what it says if it fails."""
        folder = self.folders.of(point)
        code = 0
        for _ in range(_KILLED):
            if self.stopped:
                return None
            _check_unchanged(point)  # before each of its commands reads it
            with (folder / f"{verb}.log").open("ab") as log:
                start = log.tell()
                self._process = subprocess.Popen(  # noqa: S603 - our own command
                    [
                        *(sys.executable, launcher.__file__, str(os.getpid())),
                        *(*self.task.command, verb, *given),
                    ],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    pass_fds=(lock,),  # held until the command is gone too
                )
            pruned = self._wait(point, lock, watch=verb == "fit")
            code = self._process.returncode
            if pruned or code == 0 or self.stopped:
                return None
            if code > 0:
                break
        said = (folder / f"{verb}.log").read_bytes()[start:].decode(errors="replace").splitlines()
        named = [line for line in said if line.startswith("tl: ")]
        reason = (named or said or ["nothing was said"])[-1].removeprefix("tl: ")
        if code < 0:
            reason = f"was killed {_KILLED} times by {signal.Signals(-code).name}, last: {reason}"
        return f"{verb}: {reason}"

    def _wait(self, point: Point, lock: int, *, watch: bool) -> bool:
        """Wait for the command; return whether it was pruned."""
        process, search = self._process, self.study.search
        touched = 0.0
        while process is not None and process.poll() is None:
            time.sleep(_POLL)
            if time.monotonic() - touched < _TOUCH:
                continue
            touched = time.monotonic()
            os.utime(lock)
            if watch and point.trial is not None and search is not None and search.pruning:
                others = trials_of(point, self.points, self.folders, search)
                if should_prune(others, self.folders.curve(point, search.metric), search):
                    process.kill()
                    process.wait()
                    self.folders.write(point, "pruned.json", {"trials": len(others)})
                    return True
        return False


def _check_unchanged(point: Point) -> None:
    """Refuse configurations that were changed since the run got its name.

    Raises:
        StudyChangedError: If one was.
    """
    try:
        same = hash_of(merged(point.configs, point.options)) == point.settings
    except ValueError:
        same = False
    if not same:
        raise StudyChangedError(
            f"A configuration of {point.title} was changed while its study ran "
            f"({', '.join(point.configs)})"
        )


def main(arguments: list[str]) -> None:
    """Run a worker as a process: ``python -m tl.study.worker PARENT TASK``.

    Args:
        arguments: The parent's process id, and the task as JSON.
    """
    launcher.end_with(int(arguments[0]), signal.SIGTERM)
    task = Task.from_text(arguments[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when
    try:
        worker = Worker(task)
        signal.signal(signal.SIGTERM, worker.stop)
        worker.work()
    except UnloggedError as error:
        print(f"tl: {error}.", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except StudyChangedError as error:
        print(  # noqa: T201
            f"tl: {error}. Take it back, or start the study again with --accept-changes.",
            file=sys.stderr,
        )
        sys.exit(1)
    except Exception as error:
        reason = str(error)
        if not isinstance(error, OSError | ValueError):  # of whatever database it is
            if os.environ.get("TL_DEBUG") == "1":
                raise
            kind = type(error).__name__
            reason = f"a worker ended with {kind}: {' '.join(reason.split())[:300]}"
        with suppress(OSError):
            if shutil.disk_usage(task.out).free < _FULL:
                reason += f"; the disk that holds {task.out} is full: free some space, start again"
        print(f"tl: {reason}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
