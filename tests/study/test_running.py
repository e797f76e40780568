"""Studies whose runs are a script, with everything else as it is: processes, storage, kills."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.studies import content, environment, run, starts, task, write_study
from tests.study.test_sections import SEARCH
from tl.study.definition import define
from tl.study.findings import as_dict, report_of
from tl.study.folders import RunFolders
from tl.study.points import points_of
from tl.study.running import _check_options
from tl.study.study_file import read_study
from tl.study.worker import StudyChangedError, Worker

pytest.importorskip("optuna", reason="needs tl[study]")

START = (
    "import sys; from tl.study.task import Task; from tl.study.running import run_study;"
    "run_study(Task.from_text(sys.argv[1]), int(sys.argv[2]))"
)


def start(
    path: Path, workers: int, seconds: float, storage: str | None = None
) -> subprocess.Popen[str]:
    """Start a study in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", START, task(path, storage=storage).as_text(), str(workers)],
        env=environment(STUB_SECONDS=str(seconds)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(pid: int) -> list[int]:
    """The processes that one has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == pid:
            found.append(int(path.parent.name))
    return found


def test_a_study_runs_to_its_end_and_is_not_repeated(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    ended = run(path, workers=2)
    assert ended.progress.is_over
    assert ended.failures == {}
    assert set(starts(tmp_path / "out").values()) == {1}
    assert len(starts(tmp_path / "out")) == 10
    run(path)
    assert set(starts(tmp_path / "out").values()) == {1}
    # a new seed adds runs, and is a change that is shown
    with pytest.raises(ValueError, match=r"asks for other runs .*5 more, such as source/seed=2"):
        run(path, "seed_everything=[0,1,2]")
    with pytest.raises(ValueError, match=r"model.size was \"not set\" and is 7 in source/seed="):
        run(path, "source.model.size=7")
    run(path, "seed_everything=[0,1,2]", accept_changes=True)
    assert len(starts(tmp_path / "out")) == 15
    assert set(starts(tmp_path / "out").values()) == {1}


def test_a_failed_run_is_named_and_stops_nothing(tmp_path: Path) -> None:
    given = content()
    given["stages"]["target"]["except"]["data.part"] = {0.5: {"model.fails": True}}
    path = write_study(tmp_path, given)
    ended = run(path)
    assert len(ended.failures) == 4
    assert set(ended.failures.values()) == {"fit: it broke"}
    report = report_of(read_study(path), tmp_path / "out")
    assert len(as_dict(report)["failed"]) == 4
    assert [len(cell.runs) for cell in report.cells] == [2, 2, 0, 0]
    run(path)
    assert set(starts(tmp_path / "out").values()) == {1}
    run(path, retry_failed=True)
    assert sorted(starts(tmp_path / "out").values()) == [1] * 6 + [2] * 4


def test_a_metric_that_no_run_logs_ends_the_study_at_its_first_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path)
    with pytest.raises(ValueError, match="The workers ended before the study"):
        run(path, "report.metric=test/f1")
    said = "is done, and it logs no test/f1; it logs test/acc. Correct `report.metric`, or"
    assert said in capfd.readouterr().err
    assert len(starts(tmp_path / "out")) < 10
    with pytest.raises(ValueError, match=r"No run logs test/f1; they log test/acc, val/acc\."):
        run(path, "report.metric=test/f1")
    assert run(path).failures == {}
    assert set(starts(tmp_path / "out").values()) == {1}


def test_a_run_that_lacks_a_metric_of_the_others_has_failed(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    run(path)
    [point, *_] = [p for p in points_of(read_study(path)).values() if p.stage == "target"]
    results = RunFolders(tmp_path / "out").of(point) / "version_0" / "results.json"
    content = json.loads(results.read_text())
    content["metrics"] = {"val/acc": 0.5, "test/loss": 1.0}
    results.write_text(json.dumps(content))
    worker = Worker(task(path))
    assert worker._unlogged(point) == "it logs no test/acc; it logs test/loss."


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_two_processes_share_a_study(tmp_path: Path, kind: str) -> None:
    path = write_study(tmp_path)
    storage = f"journal:{tmp_path / 'journal.log'}" if kind == "journal" else None
    both = [start(path, 1, 0.1, storage) for _ in range(2)]
    for process in both:
        _, said = process.communicate(timeout=600)
        assert process.returncode == 0, said[-2000:]
    assert len(starts(tmp_path / "out")) == 10
    assert set(starts(tmp_path / "out").values()) == {1}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")
def test_a_study_that_is_killed_again_and_again_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    undisturbed = write_study(tmp_path / "a")
    os.chdir(tmp_path / "a")  # undone by the fixture's own
    run(undisturbed, workers=2)
    expected = as_dict(report_of(read_study(undisturbed), tmp_path / "a" / "out"))
    (tmp_path / "b").mkdir()
    path = write_study(tmp_path / "b")
    os.chdir(tmp_path / "b")
    times = random.Random(0)  # noqa: S311 - when to kill
    for number in range(10):
        before = sum(starts(tmp_path / "b" / "out").values())
        process = start(path, 2, 0.8)
        until = time.monotonic() + 600
        while sum(starts(tmp_path / "b" / "out").values()) == before and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(times.uniform(0.0, 1.2))
        if number % 2:  # a worker first, whose run another one takes up
            # a study that is over by now has none
            for worker in children(process.pid)[:1]:
                os.kill(worker, signal.SIGKILL)
            time.sleep(times.uniform(0.0, 1.0))
        assert process.poll() in (None, 0)  # it ends of nothing else
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert max(starts(tmp_path / "b" / "out").values()) > 1  # some were cut off
    ended = run(path, workers=2)
    assert ended.progress.is_over
    assert ended.failures == {}
    assert as_dict(report_of(read_study(path), tmp_path / "b" / "out")) == expected


def test_a_study_that_is_interrupted_goes_on(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    process = start(path, 1, 0.5)
    until = time.monotonic() + 600
    while not starts(tmp_path / "out") and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=600)
    assert process.returncode != 0
    assert not list((tmp_path / "out").glob("*/*/failed.json"))
    assert run(path).progress.is_over
    assert len(json.loads((tmp_path / "out" / "study.json").read_text())["runs"]) == 10


def test_a_file_that_is_changed_under_a_running_study_is_not_obeyed(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    process = start(path, 1, 0.5)
    until = time.monotonic() + 600
    while not starts(tmp_path / "out"):
        assert time.monotonic() < until
        time.sleep(0.05)
    path.write_text(path.read_text().replace("- 0\n      - 1\n", "- 0\n      - 1\n      - 2\n"))
    os.kill(children(process.pid)[0], signal.SIGKILL)  # its successor reads the file
    _, said = process.communicate(timeout=600)
    assert process.returncode != 0
    assert "was changed while its study ran: 5 more, such as source/seed=2" in said
    assert "or start the study again with --accept-changes" in said
    assert not list((tmp_path / "out").glob("*/*seed=2*"))


def test_a_configuration_that_is_changed_under_a_running_study_is_not_mixed(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    worker = Worker(task(path))
    point = next(iter(worker.points.values()))
    (tmp_path / "base.yaml").write_text("model: {size: 999}\n")
    with pytest.raises(StudyChangedError, match=r"source/seed=0.* was changed while .*base\.yaml"):
        worker.run(point)
    assert starts(tmp_path / "out") == {}
    assert worker.folders.state(point) == "unfinished"


def test_a_reference_deep_in_an_option_is_filled_in(tmp_path: Path) -> None:
    given = content()
    given["stages"]["target"]["set"] = {"model": {"source": ["{source.best}"]}}
    given["stages"]["target"]["except"] = {}
    worker = Worker(task(write_study(tmp_path, given)))
    point = next(p for p in worker.points.values() if p.stage == "target")
    worker.run(worker.points[point.needs["source"]])
    best = worker.folders.best(worker.points[point.needs["source"]])
    assert f'--model={{"source": ["{best}"]}}' in worker._arguments(point)


def test_a_configuration_that_is_changed_during_training_is_not_tested(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    before = (tmp_path / "base.yaml").read_text()
    edit = (
        "import sys, pathlib\nif sys.argv[1] == 'fit': pathlib.Path('base.yaml').write_text('{}')"
    )
    (tmp_path / "stub.py").write_text(edit + (tmp_path / "stub.py").read_text())
    worker = Worker(task(path))
    point = next(iter(worker.points.values()))
    with pytest.raises(StudyChangedError, match=r"was changed while .*base\.yaml"):
        worker.run(point)
    assert worker.folders.is_trained(point)
    assert worker.folders.state(point) == "unfinished"
    (tmp_path / "base.yaml").write_text(before)
    worker.run(point)
    assert worker.folders.state(point) == "done"
    assert set(starts(tmp_path / "out").values()) == {1}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[list[str]]]:
    """The arguments of the runs that are parsed, by call."""
    calls: list[list[list[str]]] = []

    def check(_: object, **given: Any) -> subprocess.CompletedProcess[str]:
        calls.append(json.loads(given["input"]))
        return subprocess.CompletedProcess([], 0, json.dumps([None] * len(calls[-1])), "")

    monkeypatch.setattr("tl.study.running.subprocess.run", check)
    return calls


def test_options_are_checked_again_where_a_value_was_changed(
    tmp_path: Path, asked: list[list[list[str]]]
) -> None:
    path = write_study(tmp_path)
    for settings in ((), (), ("model.size=x",)):
        study = read_study(path, settings)
        _check_options(study, points_of(study), tmp_path)
    # the source, and the target's values with the files of either method: all but the seeds
    assert [len(runs) for runs in asked] == [5, 5]
    (tmp_path / "base.yaml").write_text("model: {sizes: 1}\n")
    study = read_study(path)
    _check_options(study, points_of(study), tmp_path)
    assert [len(runs) for runs in asked] == [5, 5, 5]


def test_all_that_a_search_may_choose_is_checked(
    tmp_path: Path, asked: list[list[list[str]]]
) -> None:
    over = {"model.lr": [0.1, 0.3, "log"], "model.layer": {"choices": ["a", "b", "c"]}}
    study = read_study(write_study(tmp_path, content(search={**SEARCH, "over": over})))
    _check_options(study, points_of(study), tmp_path)
    words = {word for runs in asked for run in runs for word in run if "model.l" in word}
    lr, layer = "--model.lr=", "--model.layer="
    assert words == {f"{lr}0.1", f"{lr}0.3", f"{layer}a", f"{layer}b", f"{layer}c"}


def test_a_file_that_is_changed_is_told_before_the_next_run(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    worker = Worker(task(path))
    define("Why?", worker.points, tmp_path / "out")
    first, second, third, *_ = worker.points.values()
    text = path.read_text()
    path.write_text(text.replace("Does a source help?", "Does it?"))
    assert worker.run(first) == "ended"  # it asks for the same runs
    path.write_text(text.replace("- 0\n      - 1\n", "- 0\n      - 1\n      - 2\n"))
    with pytest.raises(StudyChangedError, match="while its study ran: 5 more, such as source/s"):
        worker.run(second)
    define("Why?", points_of(read_study(path)), tmp_path / "out")  # accepted elsewhere
    assert worker.run(second) == "ended"
    path.write_text("question: ")
    with pytest.raises(StudyChangedError, match=r"while its study ran: .*`stages` must be a mapp"):
        worker.run(third)
    assert len(starts(tmp_path / "out")) == 2
