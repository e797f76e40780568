"""One of two processes fails: the run ends soon, and the cause is its last line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from tests.processes import PATIENCE
from tl.runs.ranks import (
    PARENT,
    check_rank,
    end_with_parent,
    fail,
    is_secondary,
    watch_children,
)

ROOT = Path(__file__).resolve().parents[2]


def running(folder: Path) -> list[str]:
    """Return the command lines of processes that mention a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(folder) in line and state != "Z":
            found.append(line)
    return found


def run(folder: Path, rank: int, how: str, where: str = "train") -> tuple[int, list[str]]:
    """Return the exit code and standard error of a run of two processes."""
    log = folder / "said.txt"
    with log.open("w") as said:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tl.cli", "fit", "--config", "configs/multitask.yaml"),
                *("--config", "configs/overlays/quick.yaml", "--data.init_args.batch_size=10"),
                *("--data.init_args.generated_size=200", "--trainer.max_epochs=1"),
                *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
                *("--trainer.strategy=ddp", "--trainer.devices=2", f"--log_dir={folder}"),
                *("--trainer.num_sanity_val_steps=0", "--trainer.callbacks+=tests.failing.Fail"),
                f"--trainer.callbacks.rank={rank}",
                f"--trainer.callbacks.how={how}",
                f"--trainer.callbacks.where={where}",
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout=PATIENCE)
            for _ in range(600):
                if not running(folder):
                    break
                time.sleep(0.1)
            assert not running(folder), "processes are left behind"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    text = log.read_text()
    # what fails in code of the user's own shows where
    assert ("Traceback" in text) == (how == "raise")
    return code, [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("rank", "how", "where", "code", "said"),
    [
        (1, "raise", "train", 1, "tl: rank 1: the disk is on fire"),
        (1, "kill", "setup", 1, "tl: rank 1 was killed by SIGKILL; memory may have run out."),
        (
            0,
            "kill",
            "validate",
            -9,
            "tl: rank 0 exited without an error message; it may have",
        ),
        # seen in averaged gradients by both, and said once
        (1, "nan", "train", 1, "tl: rank 0: The losses of tasks 'cifar10', 'cifar100' are not fin"),
    ],
)
def test_the_cause_is_the_last_line(
    rank: int, how: str, where: str, code: int, said: str, tmp_path: Path
) -> None:
    found, lines = run(tmp_path, rank, how, where)
    assert found == code
    assert lines[-1].startswith(said)
    assert len([line for line in lines if line.startswith("tl: rank")]) == 1


@pytest.mark.parametrize("done", [False, True])
def test_the_first_process_may_go_first_only_when_all_are_done(
    done: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []
    gone = False

    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setattr("os.getppid", lambda: -1 if gone else 7)
    monkeypatch.setenv(PARENT, "7")
    monkeypatch.setenv("LOCAL_RANK", "1")
    before = set(threading.enumerate())
    over = end_with_parent()
    [watch] = set(threading.enumerate()) - before
    if done:
        over.set()
    gone = True
    watch.join(timeout=PATIENCE)
    assert not watch.is_alive()
    assert ended == ([] if done else [1])
    assert ("rank 0 exited" in capsys.readouterr().err) is not done


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer", True),
        ("NCCL communicator was aborted on rank 1.", True),
        ("The loss of task 'a' is not finite at step 3", False),
    ],
)
def test_an_error_of_the_connection_is_not_the_cause(line: str, expected: bool) -> None:
    assert is_secondary(line) is expected


def test_the_watch_ends_with_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(code: int, _: Any) -> None:
        raise SystemExit(code)

    monkeypatch.setattr("tl.runs.ranks._end", ended)
    for code in (0, 3):
        child = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])
        if code == 0:
            watch_children([child])
        else:
            with pytest.raises(SystemExit, match="3"):
                watch_children([child])


def test_a_process_killed_because_the_run_ends_is_not_the_cause(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Child:
        """A process that the watch finds dead as soon as it is killed."""

        code: int | None = None

        def poll(self) -> int | None:
            return self.code

        def kill(self) -> None:
            self.code = -signal.SIGKILL
            watch_children([cast("Any", self)])

        def wait(self, timeout: float) -> None:
            del timeout

    def ended(code: int) -> None:
        raise SystemExit(code)

    child = Child()
    launcher = SimpleNamespace(procs=[child], cluster_environment=None)
    trainer: Any = SimpleNamespace(
        world_size=2, global_rank=0, strategy=SimpleNamespace(launcher=launcher)
    )
    monkeypatch.setattr("os._exit", ended)
    monkeypatch.setattr("tl.runs.ranks._ENDING", threading.Event())
    with pytest.raises(SystemExit, match="1"):
        fail("the disk is on fire", 1, trainer)
    assert child.code == -signal.SIGKILL
    assert capsys.readouterr().err == "tl: rank 0: the disk is on fire\n"


def test_a_rank_without_other_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    quiet: dict[str, Any] = {"accelerator": "cpu", "logger": False}
    check_rank(Trainer(devices=1, **quiet))
    check_rank(Trainer(devices=2, **quiet))
    monkeypatch.setenv("LOCAL_RANK", "0")
    check_rank(Trainer(devices=1, **quiet))  # the only one is the first
    with pytest.raises(ValueError, match=r"2 processes are started elsewhere \(LOCAL_RANK=0\)"):
        check_rank(Trainer(devices=2, **quiet))
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    with pytest.raises(ValueError, match=r"declares several \(LOCAL_RANK=1\)"):
        check_rank(Trainer(devices=1, **quiet))
