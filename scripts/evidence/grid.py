"""Runs of a comparison: each is trained and tested once, on the command line.

A comparison is a list of runs that differ in seed, method or data. Each is two commands, ``fit``
and ``test``, in separate processes; a finished run is not repeated, so an interrupted grid resumes
where it stopped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tl.report import find_tested


@dataclass(frozen=True)
class GridRun:
    """One run of a grid.

    Args:
        name: Its folder in the grid's folder.
        arguments: What follows ``tl fit`` and ``tl test``: configurations, options, seed.
    """

    name: str
    arguments: tuple[str, ...]


def run_all(runs: Iterable[GridRun], folder: Path, jobs: int = 1) -> None:
    """Train and test the unfinished runs, and report how each ended.

    Args:
        runs: The runs; those of one call must not depend on each other.
        folder: Folder of the grid.
        jobs: Runs at a time; with more than one, each has a single thread.

    Raises:
        RuntimeError: If a command fails, with its last line. Runs under way end first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        started = [pool.submit(_run, run, folder, jobs) for run in runs]
        try:
            for run in started:
                run.result()
        except BaseException:  # Ctrl-C too: what has not begun does not begin
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _run(run: GridRun, folder: Path, jobs: int) -> None:
    if (done := metrics_on_test(folder / run.name)) is not None:
        print(f"{run.name}: done before, test/acc {done['test/acc']:.4f}", flush=True)
        return
    _set_aside(folder / run.name)
    print(f"{run.name}: running", flush=True)
    threads = {"OMP_NUM_THREADS": "1"} if jobs > 1 else {}
    for verb in ("fit", "test"):
        done_process = subprocess.run(  # noqa: S603 - our own command
            [
                *(sys.executable, "-m", "tl.cli", verb, *run.arguments),
                *(f"--log_dir={folder}", f"--name={run.name}"),
            ],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **threads},
        )
        if done_process.returncode:
            lines = done_process.stderr.strip().splitlines() or ["no output"]
            raise RuntimeError(f"{run.name}: {verb} failed: {lines[-1]}")
    metrics = metrics_on_test(folder / run.name) or {}
    print(f"{run.name}: test/acc {metrics['test/acc']:.4f}", flush=True)


def _set_aside(folder: Path) -> None:
    """Move what a cut-off run left out of the way; it may still be wanted."""
    if not folder.exists():
        return
    number = 0
    while (aside := folder.with_name(f"{folder.name}.unfinished-{number}")).exists():
        number += 1
    folder.rename(aside)


def metrics_on_test(folder: Path) -> dict[str, float] | None:
    """Metrics of a run on its test set; ``None`` if it was not tested.

    Args:
        folder: ``<log_dir>/<name>``, which holds ``version_N`` folders, or one of these.
    """
    found = find_tested(folder)
    return None if found is None else found.metrics


def best_checkpoint(folder: Path) -> Path:
    """Path of the best checkpoint of a run of a grid."""
    return folder / "version_0" / "checkpoints" / "best.ckpt"


def by_seed(folder: Path, names: Sequence[str], metric: str = "test/acc") -> list[float]:
    """A metric of tested runs, in the order of their names.

    Raises:
        ValueError: If one is not tested or lacks the metric.
    """
    values = []
    for name in names:
        metrics = metrics_on_test(folder / name) or {}
        if metric not in metrics:
            raise ValueError(f"{folder / name} has no {metric}: the run is not done.")
        values.append(metrics[metric])
    return values
