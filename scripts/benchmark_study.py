"""What dealing out a study costs: seconds between runs, beside a run of a minute.

    python scripts/benchmark_study.py

A study whose runs are a script that waits: storage, locks, processes and the live table are those
of any study, without what ``fit`` and ``test`` import and do. What a run costs is the time of the
study, from its first run's start to its last run's end, without the waiting, over the number of
runs. With two workers the study lasts half as long, so that the share is of a worker's time.
Reading the file and starting the workers, once per study, is given apart. ``--smoke`` has four runs
that wait for a moment.

Measured with the defaults, 2026-11-29, Python 3.11, SQLite, an x86 CPU with 2 cores, load 1.1:

    | workers | s a run costs | of a minute | s before the first run |
    | --- | --- | --- | --- |
    | 1 | 0.38 | 0.6% | 2.8 |
    | 2 | 0.39 | 0.7% | 2.1 |

With both cores busy with other trainings a run cost 3.6 and 4.0 s, as all else took longer too.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import yaml

from tl.study.running import run_study
from tl.study.task import Task

MINUTE = 60.0

# waits instead of training, and leaves what a run leaves; notes its times
RUN = """
import json, sys, time
from pathlib import Path
begun = time.time()
words = [word[2:] for word in sys.argv[2:] if word.startswith("--") and "=" in word]
given = dict(word.split("=", 1) for word in words)
version = Path(given["log_dir"]) / given["name"] / "version_0"
version.mkdir(exist_ok=True)
results = version / "results.json"
if sys.argv[1] == "fit":
    time.sleep(float(given["model.seconds"]))
    content = {"metrics": {"val/acc": 0.5}, "steps": 1, "begun": begun}
else:
    content = json.loads(results.read_text())
    content["metrics"]["test/acc"] = 0.5
    content["ended"] = time.time()
(version / "partial").write_text(json.dumps(content))
(version / "partial").rename(results)
"""


def measure(runs: int, seconds: float, workers: int) -> tuple[float, float]:
    """Run a study of waiting.

    Returns:
        Seconds that a run costs beside its waiting, and seconds before the first run.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "base.yaml").write_text("model: {}\n")
        (folder / "run.py").write_text(RUN)
        stage = {
            "configs": ["base.yaml"],
            "vary": {"model.method": ["a", "b"], "seed_everything": list(range(runs // 2))},
            "set": {"model.seconds": seconds},
        }
        report = {"metric": "test/acc", "rows": ["model.method"], "against": {"model.method": "a"}}
        content = {"question": "What does a study cost?", "stages": {"runs": stage}}
        (folder / "study.yaml").write_text(yaml.safe_dump({**content, "report": report}))
        with contextlib.chdir(folder):
            command = (sys.executable, str(folder / "run.py"))
            start = time.time()
            run_study(Task("study.yaml", (), "out", None, command), workers, say=io.StringIO())
        left = [json.loads(path.read_text()) for path in folder.rglob("results.json")]
        first = min(each["begun"] for each in left)
        whole = max(each["ended"] for each in left) - first
        return (workers * whole - len(left) * seconds) / len(left), first - start


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0, help="that a run waits")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    runs, seconds = (4, 0.1) if given.smoke else (given.runs, given.seconds)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {runs} runs of {seconds:g} s\n")
    print("| workers | s a run costs | of a minute | s before the first run |")
    print("| --- | --- | --- | --- |")
    for workers in (1, 2):
        cost, begin = measure(runs, seconds, workers)
        print(f"| {workers} | {cost:.2f} | {cost / MINUTE:.1%} | {begin:.1f} |", flush=True)


if __name__ == "__main__":
    main()
