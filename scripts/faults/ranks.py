"""Two ranks, one of which is killed or raises."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TWO_RANKS = (
    *("--trainer.devices=2", "--trainer.strategy=ddp"),
    "--save_on_signal.every_n_steps=2",
)


def run_ranks(arguments: list[str], fault: str = "", limit: float = 120) -> tuple[int, str, float]:
    """Run a command in two processes, as Lightning starts them.

    Args:
        arguments: What follows ``python -m tl.cli``.
        fault: ``killed RANK`` or ``raises RANK``.
        limit: Seconds after which it hangs; then all of it is ended.

    Returns:
        Exit code of rank 0, what both said, and seconds from the first process's end to that of
        the last; exit code 124 and infinity if it hung.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "FAULT": fault}
    with os.fdopen(os.memfd_create("output"), "w+b") as output:
        first = subprocess.Popen(  # noqa: S603 - the command line of this repository
            [sys.executable, "-m", "tl.cli", *arguments, *TWO_RANKS],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            seconds = _until_all_are_gone(first, limit)
        finally:
            _end_all(first.pid)
        code = first.wait() if seconds < limit else 124
        output.seek(0)
        return code, output.read().decode(errors="replace"), seconds


def _until_all_are_gone(first: subprocess.Popen[bytes], limit: float) -> float:
    """Wait, and return the seconds between the first end and the last."""
    deadline = time.monotonic() + limit
    most = 0
    began = None
    while time.monotonic() < deadline:
        first.poll()
        left = len(_alive(first.pid))
        most = max(most, left)
        if left < most and most >= 2 and began is None:
            began = time.monotonic()
        if not left:
            return time.monotonic() - (began or time.monotonic())
        time.sleep(0.1)
    return float("inf")


def _alive(session: int) -> list[int]:
    """List the processes of a session that are not zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, its = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has just ended
            continue
        if int(its) == session and state != "Z":
            found.append(int(folder.name))
    return found


def _end_all(session: int) -> None:
    for process in _alive(session):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
