from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from scripts.evidence.grid import GridRun, best_checkpoint, by_seed, metrics_on_test, run_all


class Commands:
    """Stands in for the command line: writes what it would leave."""

    def __init__(self, folder: Path, *, fails: str = "") -> None:
        self.folder = folder
        self.fails = fails
        self.given: list[list[str]] = []

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        verb, rest = command[3], command[4:]
        self.given.append(command)
        name = next(word for word in rest if word.startswith("--name=")).removeprefix("--name=")
        if verb == self.fails:
            return subprocess.CompletedProcess(command, 1, "", "noise\ntl: it broke\n")
        versions = len(list((self.folder / name).glob("version_*")))
        path = self.folder / name / f"version_{versions}" / "results.json"
        path.parent.mkdir(parents=True)
        metrics = {"val/acc": 0.5} if verb == "fit" else {"test/acc": 0.25}
        path.write_text(json.dumps({"metrics": metrics}))
        return subprocess.CompletedProcess(command, 0, "", "")


def test_a_run_is_trained_and_tested_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = Commands(tmp_path)
    monkeypatch.setattr("subprocess.run", commands)
    runs = [GridRun("a-0", ("--config", "x.yaml", "--seed_everything=0"))]
    run_all(runs, tmp_path)
    assert [command[3] for command in commands.given] == ["fit", "test"]
    assert commands.given[0][4:7] == ["--config", "x.yaml", "--seed_everything=0"]
    run_all(runs, tmp_path)
    assert len(commands.given) == 2
    assert "done before, test/acc 0.2500" in capsys.readouterr().out
    assert by_seed(tmp_path, ["a-0"]) == [0.25]


def test_what_was_cut_off_is_set_aside_and_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Commands(tmp_path, fails="test")
    monkeypatch.setattr("subprocess.run", broken)
    runs = [GridRun("a-0", ())]
    with pytest.raises(RuntimeError, match="a-0: test failed: tl: it broke"):
        run_all(runs, tmp_path)
    assert metrics_on_test(tmp_path / "a-0") is None
    monkeypatch.setattr("subprocess.run", Commands(tmp_path))
    run_all(runs, tmp_path)
    assert (tmp_path / "a-0.unfinished-0" / "version_0" / "results.json").exists()
    assert by_seed(tmp_path, ["a-0"]) == [0.25]


def test_runs_go_side_by_side_with_a_thread_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str | None] = []
    commands = Commands(tmp_path)

    def noted(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        threads.append(options["env"].get("OMP_NUM_THREADS"))
        return commands(command)

    monkeypatch.setattr("subprocess.run", noted)
    run_all([GridRun(f"a-{i}", ()) for i in range(3)], tmp_path, jobs=2)
    assert threads == ["1"] * 6
    assert len(by_seed(tmp_path, ["a-0", "a-1", "a-2"])) == 3


def test_a_missing_value_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a-0 has no test/acc: the run is not done"):
        by_seed(tmp_path, ["a-0"])
    assert best_checkpoint(tmp_path / "a").parts[-3:] == ("version_0", "checkpoints", "best.ckpt")
