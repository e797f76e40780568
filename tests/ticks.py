"""Waiting until the file system's clock has moved on."""

from __future__ import annotations

import time
from pathlib import Path


def wait_for_a_tick(path: Path) -> None:
    """Wait until what is written next has a later time than a file: some clocks tick every 4 ms."""
    probe, last = path.with_name("probe"), path.stat().st_ctime_ns
    while True:
        probe.write_bytes(b"")
        later = probe.stat().st_ctime_ns > last
        probe.unlink()
        if later:
            return
        time.sleep(0.001)
