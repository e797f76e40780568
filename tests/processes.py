"""Two processes on this machine that train together, as a launcher starts them."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: Seconds to wait for a process; a loaded machine needs minutes for what takes seconds.
PATIENCE = 900


def run_two_processes(arguments: Sequence[str], folder: Path) -> None:
    """Run Python twice, as ranks 0 and 1, and see both succeed.

    Both are forked from a process that has imported everything and done nothing: imports take
    longer than what most tests then do.

    Args:
        arguments: What follows ``python``: a file, or ``-c`` and code, with its arguments.
        folder: Working folder.
    """
    # bound to the end, so that nobody else is given the port while rank 0 is being imported; it may
    # bind it too, because nobody listens yet
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        _run_both(arguments, folder, held.getsockname()[1])


def _run_both(arguments: Sequence[str], folder: Path, port: int) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "OMP_NUM_THREADS": "1",
        "NODE_RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    errors = [folder / f"stderr-{rank}.txt" for rank in (0, 1)]  # a full pipe would block
    start = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload(["tests.imported"])
    processes = [
        start.Process(
            target=_become,
            args=(list(arguments), folder, {**environment, "LOCAL_RANK": str(rank)}, path),
        )
        for rank, path in enumerate(errors)
    ]
    try:
        for process in processes:
            process.start()
        wait_until(lambda: any(process.exitcode for process in processes), *processes)  # one fails
        said = [path.read_text()[-3000:] if path.exists() else "" for path in errors]
        assert [process.exitcode for process in processes] == [0, 0], "\n".join(said)
    finally:
        for process in processes:  # the other one would wait for it
            process.kill()
            process.join()


def _become(arguments: list[str], folder: Path, environment: dict[str, str], errors: Path) -> None:
    """Be ``python ARGUMENTS``."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    with errors.open("w") as said, Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(said.fileno(), 2)
    sys.path[:0] = [str(folder), str(ROOT)]
    if arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102
    else:
        sys.argv = list(arguments)
        runpy.run_path(arguments[0], run_name="__main__")


def wait_until(
    reached: Callable[[], bool], *processes: subprocess.Popen[Any] | BaseProcess
) -> None:
    """Wait until processes have got somewhere, or all have ended.

    Args:
        reached: Whether they have.
        processes: The processes.
    """
    end = time.monotonic() + PATIENCE
    while not reached() and any(_runs(process) for process in processes):
        assert time.monotonic() < end, f"nothing happened in {PATIENCE} seconds"
        time.sleep(0.05)


def _runs(process: subprocess.Popen[Any] | BaseProcess) -> bool:
    return process.is_alive() if isinstance(process, BaseProcess) else process.poll() is None
