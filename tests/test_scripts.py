"""Every script runs in its smallest form."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(ROOT.glob("scripts/*.py"))
# what the table must hold, besides being one
ROWS = {
    "generated_difficulty.py": (
        "| linear model on pixels |",
        "| ResNet-20 |",
        "drawing 500 images:",
    ),
    "fault_injection.py": (
        "| SIGKILL at a random step | 2 | 2 | 2 | 0 |",
        "| killed while a checkpoint is written: in a write | 1 | 1 | 1 | 0 |",
        "| truncated checkpoint | 1 | 1 | 1 | 0 |",
        "| checkpoint with a flipped bit | 5 | 5 | 5 | 0 |",
        "| SIGTERM, exit code 143 | 1 | 1 | 1 | 0 |",
    ),
    "benchmark.py": (
        "losses of A and B equal to the bit",
        "| D, same network |",
        "| B over A |",
        "| data path over PIL |",
        "| alone | imported after, s |",
        "| between epochs of 2 steps | s | of an epoch |",
        "| checkpoints |",
        "| decode, PIL |",
        "| operators |",
    ),
    "benchmark_study.py": ("| workers | s a run costs | of a minute |",),
    "benchmark_guards.py": ("| all |", "| AtomicCheckpointIO |"),
}


def test_there_are_scripts() -> None:
    assert "benchmark_balancing.py" in {path.name for path in SCRIPTS}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_says_its_command_and_runs(path: Path, tmp_path: Path) -> None:
    assert f"python scripts/{path.name}" in path.read_text().split('"""')[1]
    more = [f"--out={tmp_path}"] if "--out" in path.read_text() else []
    done = subprocess.run(
        [sys.executable, str(path), "--smoke", *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| --- |" in done.stdout  # a table
    for row in ROWS.get(path.name, ()):
        assert row in done.stdout
