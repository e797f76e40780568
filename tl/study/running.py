"""A study on this machine: workers, a live table, and an end that a later start resumes from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tl.reading import read_object
from tl.signals import StoppedBySignal
from tl.study.cells import read_runs
from tl.study.checks import key_of
from tl.study.dealing import Progress, progress_of
from tl.study.definition import damage, define, difference_to
from tl.study.folders import RunFolders, write_object
from tl.study.gpus import free_gpus, visible_gpus
from tl.study.merging import argument, hash_of
from tl.study.points import SEED, Point, points_of
from tl.study.schema import Range, Study
from tl.study.storage import open_study
from tl.study.table import StudyTable
from tl.study.task import COMMAND, Task

_POLL = 0.2
_GRACE = 120.0  # seconds in which runs that are stopped save themselves


@dataclass(frozen=True)
class Ended:
    """How a study ended here.

    Args:
        progress: Where its runs are.
        failures: Why runs failed, by name.
    """

    progress: Progress
    failures: Mapping[str, str]


def run_study(
    task: Task,
    workers: int | None = None,
    *,
    accept_changes: bool = False,
    retry_failed: bool = False,
    say: TextIO = sys.stdout,
) -> Ended:
    """Run what is missing of a study, with other processes that run the same one.

    Args:
        task: The study and where it lies.
        workers: Runs at a time; one per GPU by default, but for GPUs that others use, or one.
        accept_changes: Go on though the file asks for other runs than before; those that are
            still wanted are kept.
        retry_failed: Try failed runs again.
        say: Where the live table goes.

    Raises:
        ValueError: If the file, its options or the storage are wrong.
        StoppedBySignal: If it was stopped; it resumes when it is started again.
    """
    study = task.study()
    points = points_of(study)
    out = Path(task.out)
    out.mkdir(parents=True, exist_ok=True)
    folders = RunFolders(out)
    if damaged := damage(out):
        print(f"tl: {damaged}", file=sys.stderr)  # noqa: T201
    changed = difference_to(points, out)
    if changed and not accept_changes:
        raise ValueError(
            f"{study.path} asks for other runs than {out} was started with: {changed}. Take the "
            "file back, name another folder by --out, or keep what is still wanted by "
            "--accept-changes."
        )
    read_runs(study, points, folders)  # a metric that no run logs is told before any other is run
    over = progress_of(points, folders).is_over
    if not over and task.command == COMMAND:
        _check_options(study, points, out)
    define(study.question, points, out)
    if retry_failed:
        for point in points.values():
            folders.forget_failure(point)
    if not progress_of(points, folders).is_over:
        open_study(study.name, out, task.storage)
        gpus, left = free_gpus(visible_gpus())
        if left:
            print(f"In use by others and left alone: {', '.join(left)}.", file=say, flush=True)
        count = workers or max(1, len(gpus))
        _supervise(task, points, folders, count, gpus, say)
    failures = {
        name: folders.failure(point)
        for name, point in points.items()
        if folders.state(point) == "failed"
    }
    return Ended(progress_of(points, folders), failures)


def _supervise(
    task: Task,
    points: Mapping[str, Point],
    folders: RunFolders,
    count: int,
    gpus: list[str],
    say: TextIO,
) -> None:
    """Keep workers until nothing is left; one that is killed is replaced."""
    readers: list[threading.Thread] = []

    def start(number: int) -> subprocess.Popen[str]:
        more = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
        if count > 1:
            threads = max(1, (os.cpu_count() or 1) // count)
            more["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(threads))
        worker = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "tl.study.worker", str(os.getpid()), task.as_text()],
            env={**os.environ, **more},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process, which tells them
        )
        readers.append(threading.Thread(target=_pass_on, args=(worker.stderr,), daemon=True))
        readers[-1].start()
        return worker

    workers = [start(number) for number in range(count)]
    try:
        with StudyTable(points, folders, count, say) as table:
            while any(worker.poll() is None for worker in workers):
                time.sleep(_POLL)
                table.update()
                for number, worker in enumerate(workers):
                    code = worker.poll()
                    if code is not None and code < 0 and not progress_of(points, folders).is_over:
                        workers[number] = start(number)
            for reader in readers:
                reader.join()
    except (KeyboardInterrupt, StoppedBySignal):
        _end(workers)
        raise
    if not progress_of(points, folders).is_over:
        raise ValueError(
            "The workers ended before the study, as the lines above say; start it again to go on."
        )


def _pass_on(lines: Iterable[str]) -> None:
    """Print what a worker says above the live table, which takes over this process's streams."""
    for line in lines:
        sys.stderr.write(line)
        sys.stderr.flush()


def _end(workers: list[subprocess.Popen[str]]) -> None:
    for worker in workers:
        if worker.poll() is None:
            worker.send_signal(signal.SIGTERM)
    until = time.monotonic() + _GRACE
    for worker in workers:
        try:
            worker.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def _tried(study: Study, point: Point) -> list[dict[str, Any]]:
    """Return options that a search may choose for a run: a range's ends, and all choices."""
    if study.search is None or point.group is None:
        return [{}]
    over = {
        option: [given.low, given.high] if isinstance(given, Range) else [*given]
        for option, given in study.search.over.items()
    }
    longest = max(map(len, over.values()))
    return [{k: v[min(i, len(v) - 1)] for k, v in over.items()} for i in range(longest)]


def _check_options(study: Study, points: Mapping[str, Point], out: Path) -> None:
    """Have the command line parse each value of each option before any run is started.

    Of a range that is searched these are its ends, and of seeds the first.

    Raises:
        ValueError: With the line of the first that it refuses.
    """
    kinds: dict[str, tuple[Point, list[str]]] = {}
    covered: set[str] = set()
    for point in points.values():
        options = {
            key: "checkpoint.ckpt" if isinstance(value, str) and "{" in value else value
            for key, value in point.options.items()
        }
        for tried in _tried(study, point):
            values = {key: None if key == SEED else v for key, v in (options | tried).items()}
            parts = {key_of([point.configs, key, value]) for key, value in values.items()}
            parts.add(key_of([point.configs, sorted(values)]))
            if not parts <= covered:
                covered |= parts
                given = [word for config in point.configs for word in ("--config", config)]
                given += [argument(key, value) for key, value in (options | tried).items()]
                kinds[hash_of({}, given=given, of=point.settings)] = point, given
    known = read_object(out / "checked.json").get("kinds")
    known = known if isinstance(known, list) else []
    asked = {key: kind for key, kind in kinds.items() if key not in known}
    if not asked:
        return
    done = subprocess.run(
        [sys.executable, "-m", "tl.cli.checking"],
        input=json.dumps([given for _, given in asked.values()]),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(f"The runs cannot be checked: {done.stderr.strip()[-300:]}")
    for (point, _), line in zip(asked.values(), json.loads(done.stdout), strict=True):
        if line is not None:
            raise ValueError(f"stage {point.stage!r}, {point.label}: {line}")
    write_object(out / "checked.json", {"kinds": [*known, *asked]})
