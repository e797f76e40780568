"""Most memory that a run held."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch


def peak_memory_bytes() -> int:
    """Most memory held at once: allocated on the GPU, or resident where none is used."""
    if torch.cuda.is_available() and (held := torch.cuda.max_memory_allocated()):
        return held
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where `ru_maxrss` also counts what the parent process held
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # kilobytes on Linux, bytes on macOS
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
