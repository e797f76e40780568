"""Two processes on this machine that train together, as a launcher starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_two_processes(arguments: Sequence[str], folder: Path) -> None:
    """Run Python twice, as ranks 0 and 1, and see both succeed.

    Scripts end with ``torch.distributed.destroy_process_group()``: gloo's threads must not outlive
    the interpreter.

    Args:
        arguments: What follows ``python``.
        folder: Working folder.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "OMP_NUM_THREADS": "1",
        "NODE_RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env={**environment, "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=480)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in processes:  # the other one would wait for it
            process.kill()
            process.wait()
