from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tl.callbacks.memory import peak_memory_bytes

ROOT = Path(__file__).resolve().parents[2]


def test_memory_is_in_bytes() -> None:
    held = torch.ones(64 * 2**20, dtype=torch.uint8)  # touched, so resident
    assert peak_memory_bytes() > held.numel()


def test_a_gpu_that_is_not_used_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 0)
    assert peak_memory_bytes() > 10 * 2**20
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7)
    assert peak_memory_bytes() == 7


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_of_the_process_that_started_this_one_does_not_count() -> None:
    child = "from tl.callbacks.memory import peak_memory_bytes as p; print(p())"
    parent = (
        "import subprocess, sys; held = b'x' * 2**31; "
        f"print(subprocess.check_output([sys.executable, '-c', {child!r}], text=True))"
    )
    found = subprocess.check_output([sys.executable, "-c", parent], text=True, cwd=ROOT)
    assert 2**25 < int(found) < 2**31
