"""Tiny studies whose runs are a script that writes what a run leaves."""

from __future__ import annotations

import io
import json
import os
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tl.study.folders import RunFolders
from tl.study.points import Point, points_of
from tl.study.running import Ended, run_study
from tl.study.schema import Study
from tl.study.study_file import read_study
from tl.study.task import Task

ROOT = Path(__file__).resolve().parents[1]

# notes every start of `fit`; the score follows from the run's name, and from lr where it is given
SCRIPT = """
import json, os, random, sys, time
from pathlib import Path

verb, *rest = sys.argv[1:]
given = dict(word[2:].split("=", 1) for word in rest if word.startswith("--") and "=" in word)
folder = Path(given["log_dir"]) / given["name"]
seconds = float(os.environ.get("STUB_SECONDS", "0"))
if verb == "fit":
    with (folder / "started").open("a") as file:
        file.write(f"{time.time()}\\n")
    if (folder / "version_0" / "results.json").exists():
        sys.exit(0)  # nothing is left to train
    time.sleep(seconds)
    if given.get("model.fails") == "true":
        print("noise\\ntl: it broke", file=sys.stderr)
        sys.exit(2)
    version = folder / f"version_{len(list(folder.glob('version_*')))}"
    (version / "checkpoints").mkdir(parents=True)
    (version / "checkpoints" / "best.ckpt").write_text("weights")
    score = random.Random(given["name"]).random()
    if "model.lr" in given:
        score = 1 - abs(float(given["model.lr"]) - 0.3)
    if given.get("model.init", "null") != "null":
        assert Path(given["model.init"]).exists()
    content = {
        "metrics": {"val/acc": score}, "steps": 10, "seconds": 1.0,
        "best": {"checkpoint": "checkpoints/best.ckpt", "monitor": "val/acc", "score": score},
    }
    (version / "metrics.csv").write_text(f"step,val/acc\\n5,{score / 2}\\n9,{score}\\n")
    partial = version / "partial"
    partial.write_text(json.dumps(content))
    partial.rename(version / "results.json")
else:
    version = sorted(folder.glob("version_*"))[-1]
    content = json.loads((version / "results.json").read_text())
    content["metrics"]["test/acc"] = content["metrics"]["val/acc"] / 2
    (version / "partial").write_text(json.dumps(content))
    (version / "partial").rename(version / "results.json")
"""


def content(**changes: Any) -> dict[str, Any]:
    """A study of a source and a target with two methods, two seeds each."""
    found: dict[str, Any] = {
        "question": "Does a source help?",
        "stages": {
            "source": {"configs": ["base.yaml"], "vary": {"seed_everything": [0, 1]}},
            "target": {
                "configs": ["base.yaml"],
                "needs": {"source": {"seed_everything": "same"}},
                "vary": {
                    "method": {"scratch": {}, "full": "more.yaml"},
                    "data.part": [0.1, 0.5],
                    "seed_everything": [0, 1],
                },
                "set": {"model.init": "{source.best}", "model.target": True},
                "except": {"method": {"scratch": {"model.init": None}}},
            },
        },
        "report": {
            "metric": "test/acc",
            "rows": ["data.part", "method"],
            "against": {"method": "scratch"},
        },
    }
    return {**found, **changes}


def write_study(folder: Path, given: Mapping[str, Any] | None = None) -> Path:
    """Write a study file and the configurations that it names; they lie in the working folder."""
    (folder / "base.yaml").write_text("model: {size: 1}\ndata: {init_args: {batch_size: 4}}\n")
    (folder / "more.yaml").write_text("model: {size: 2}\n")
    (folder / "stub.py").write_text(SCRIPT)
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(content() if given is None else dict(given), sort_keys=False))
    return path


def task(path: Path, *settings: str, storage: str | None = None) -> Task:
    """What runs a study with the script, in ``out`` beside it."""
    command = (sys.executable, str(path.parent / "stub.py"))
    return Task(str(path), settings, str(path.parent / "out"), storage, command)


def run(path: Path, *settings: str, workers: int = 1, **options: Any) -> Ended:
    """Run a study with the script."""
    return run_study(
        task(path, *settings, storage=options.pop("storage", None)),
        workers,
        say=io.StringIO(),
        **options,
    )


def starts(out: Path) -> dict[str, int]:
    """How often each run was started."""
    return {
        path.parent.name: len(path.read_text().splitlines()) for path in out.glob("*/*/started")
    }


def leave_results(
    path: Path,
    out: Path,
    score: Callable[[Point], Mapping[str, float]],
    steps: int = 10,
    ways: Mapping[str, Mapping[str, str]] | None = None,
) -> tuple[Study, dict[str, Point]]:
    """Write what finished runs would leave, without running them.

    Args:
        path: The study file.
        out: Folder of the runs.
        score: Metrics of a run.
        steps: Steps of each run.
        ways: Which way scores are better, by task; nothing is said without.
    """
    study = read_study(path)
    points = points_of(study)
    for point in points.values():
        version = RunFolders(out).of(point) / "version_0"
        version.mkdir(parents=True)
        results: dict[str, Any] = {"metrics": dict(score(point)), "steps": steps, "seconds": 2.0}
        results |= {} if ways is None else {"scores": ways}
        (version / "results.json").write_text(json.dumps(results))
    return study, points


def noise(point: Point) -> dict[str, float]:
    """Scores that follow from a run's name."""
    value = random.Random(point.name).random()  # noqa: S311 - noise
    return {"test/acc": value, "val/acc": value}


def environment(**more: str) -> dict[str, str]:
    """The environment of a study's process."""
    path = os.pathsep.join([str(ROOT), *sys.path])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}
