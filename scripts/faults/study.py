"""A study of real runs, whose processes are killed at random moments."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("the study", "a worker", "a run")
_LIMIT = 1800.0  # seconds, after which a study hangs


def write(folder: Path) -> Path:
    """Write a study of two sources and four targets, some seconds each."""
    seeds = {"seed_everything": [0, 1]}
    start = "model.init_args.init_from"
    common = {"configs": [str(ROOT / "scripts/faults/transfer.yaml")]}
    longer = {"trainer.max_epochs": 60}
    content = {
        "question": "Does a kill change the answer?",
        "stages": {
            "source": {**common, "vary": seeds, "set": longer},
            "target": {
                **common,
                "needs": {"source": {"seed_everything": "same"}},
                "vary": {"method": {"scratch": {}, "full": {}}, **seeds},
                "set": {**longer, start: "{source.best}"},
                "except": {"method": {"scratch": {start: None}}},
            },
        },
        "report": {"metric": "test/acc", "rows": ["method"], "against": {"method": "scratch"}},
    }
    path = folder / "killed.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def start(path: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start a study with two workers."""
    words = ["study", "run", str(path), f"--out={out}", "--workers=2"]
    return subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "tl.cli", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill(process: subprocess.Popen[bytes], kind: str, rng: random.Random) -> bool:
    """Kill one process of a study; tell whether there was one of that kind."""
    words = {"a worker": "tl.study.worker", "a run": "--log_dir="}
    found = [process.pid] if kind == "the study" else _below(process.pid, words[kind])
    if process.poll() is not None or not found:
        return False
    with suppress(ProcessLookupError):
        os.kill(rng.choice(found), signal.SIGKILL)
        if kind == "the study":
            process.wait()
        return True
    return False


def _below(pid: int, word: str) -> list[int]:
    """Return the processes below one whose command has a word."""
    parents: dict[int, int] = {}
    commands: dict[int, str] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            number = int(path.name)
            parents[number] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            commands[number] = (path / "cmdline").read_text()

    def is_below(number: int) -> bool:
        while number in parents and number != pid:
            number = parents[number]
        return number == pid

    return [n for n, command in commands.items() if word in command and n != pid and is_below(n)]


def report(path: Path, out: Path) -> tuple[int, dict[str, Any]]:
    """Run a study to its end; return its exit code and its report in plain types."""
    process = start(path, out)
    try:
        code = process.wait(timeout=_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        return 124, {}
    written = out / "report.json"
    return code, json.loads(written.read_text()) if written.exists() else {}


def disturbed(
    path: Path, out: Path, rng: random.Random, kinds: list[str]
) -> tuple[list[str], int, dict[str, Any]]:
    """Kill processes of a study, one of each kind given, for as long as it runs; then let it end.

    Returns:
        What was killed, and as :func:`report`.
    """
    killed: list[str] = []
    process = start(path, out)
    for kind in kinds:
        if process.poll() not in (None, -signal.SIGKILL):
            break
        if process.poll() is not None:
            process = start(path, out)
        time.sleep(rng.uniform(5.0, 30.0))
        if kill(process, kind, rng):
            killed.append(kind)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_LIMIT)
    return killed, *report(path, out)
