"""Two processes on this machine that train together, as a launcher starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
#: Seconds to wait for a process; a loaded machine needs minutes for what takes seconds.
PATIENCE = 900


def run_two_processes(arguments: Sequence[str], folder: Path) -> None:
    """Run Python twice, as ranks 0 and 1, and see both succeed.

    Scripts end with ``torch.distributed.destroy_process_group()``: gloo's threads must not outlive
    the interpreter.

    Args:
        arguments: What follows ``python``.
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
    processes = []
    try:
        for rank, path in enumerate(errors):
            with path.open("w") as file:
                process = subprocess.Popen(
                    [sys.executable, *arguments],
                    cwd=folder,
                    env={**environment, "LOCAL_RANK": str(rank)},
                    stderr=file,
                    stdout=subprocess.DEVNULL,
                )
            processes.append(process)
        wait_until(lambda: any(process.poll() for process in processes), *processes)  # one fails
        said = [path.read_text()[-3000:] for path in errors]
        assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    finally:
        for process in processes:  # the other one would wait for it
            process.kill()
            process.wait()


def wait_until(reached: Callable[[], bool], *processes: subprocess.Popen[Any]) -> None:
    """Wait until processes have got somewhere, or all have ended.

    Args:
        reached: Whether they have.
        processes: The processes.
    """
    end = time.monotonic() + PATIENCE
    while not reached() and any(process.poll() is None for process in processes):
        assert time.monotonic() < end, f"nothing happened in {PATIENCE} seconds"
        time.sleep(0.05)
