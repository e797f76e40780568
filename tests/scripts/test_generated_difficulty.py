from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_smoke_measures_both_models_and_the_drawing(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "scripts/generated_difficulty.py", "--smoke"],
        capture_output=True,
        text=True,
        check=False,
        cwd=repository,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"drawing 500 images: [\d.]+ s", done.stdout)
    rows = dict(re.findall(r"^\| (.+?) \| ([\d.]+) \(one run\) \|$", done.stdout, re.MULTILINE))
    assert list(rows) == ["linear model on pixels", "ResNet-20"]
    assert 0 < float(rows["linear model on pixels"]) < 40
    assert 0 < float(rows["ResNet-20"]) <= 100
