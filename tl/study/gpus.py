"""The GPUs that a study may use."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def free_gpus(
    gpus: Sequence[str], environment: Mapping[str, str] = os.environ
) -> tuple[list[str], list[str]]:
    """Leave out GPUs whose memory is more than half in use, unless none would remain.

    Those that ``CUDA_VISIBLE_DEVICES`` names are taken as they are.

    Args:
        gpus: GPUs by their index.
        environment: Where ``CUDA_VISIBLE_DEVICES`` is looked up.

    Returns:
        The GPUs to use, and a description of each that is left out.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None or "CUDA_VISIBLE_DEVICES" in environment:
        return [*gpus], []
    query = ["--query-gpu=index,memory.used,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(  # noqa: S603 - the driver's own tool
            [tool, *query], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return [*gpus], []
    busy: dict[str, str] = {}
    for line in done.stdout.splitlines():
        index, *memory = (part.strip() for part in line.split(","))
        if len(memory) == 2 and all(part.isdigit() for part in memory):  # noqa: PLR2004 - used, total
            used, total = map(int, memory)
            if 2 * used > total:
                busy[index] = f"GPU {index} ({used} of {total} MiB)"
    free = [gpu for gpu in gpus if gpu not in busy]
    return (free, [*busy.values()]) if free else ([*gpus], [])


def visible_gpus(
    environment: Mapping[str, str] = os.environ,
    drivers: Path = Path("/proc/driver/nvidia/gpus"),
) -> list[str]:
    """Name the GPUs that a study may use, as ``CUDA_VISIBLE_DEVICES`` has them.

    Args:
        environment: Where ``CUDA_VISIBLE_DEVICES`` limits them.
        drivers: Where the driver lists them.
    """
    if (named := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in named.split(",") if name not in ("", "-1")]
    return [str(number) for number, _ in enumerate(drivers.glob("*"))]
