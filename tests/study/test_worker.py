from __future__ import annotations

import json
import os
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.studies import run, starts, task, write_study
from tl.study.findings import as_dict, report_of
from tl.study.folders import RunFolders
from tl.study.points import SEED, points_of
from tl.study.study_file import read_study
from tl.study.worker import Worker

MOUNT = ("/bin/mount",)


def worker_of(path: Path, code: str) -> Worker:
    """A worker whose runs are a piece of Python."""
    (path.parent / "stub.py").write_text(code)
    return Worker(task(path))


def test_a_run_that_fails_says_its_last_line(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    code = "import sys\nprint('tl: the disk is full\\nnoise', file=sys.stderr)\nsys.exit(1)"
    worker = worker_of(path, code)
    point = next(iter(worker.points.values()))
    assert worker.run(point) == "ended"
    assert worker.folders.state(point) == "failed"
    assert worker.folders.failure(point) == "fit: the disk is full"


def test_a_run_that_is_killed_is_tried_again_and_then_named(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    code = (
        "import os, pathlib\n"
        "with open('kills', 'a') as file: file.write('x')\n"
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})"
    )
    worker = worker_of(path, code)
    point = next(iter(worker.points.values()))
    worker.run(point)
    assert (tmp_path / "kills").read_text() == "xxx"
    assert "was killed 3 times by SIGKILL" in worker.folders.failure(point)


def test_a_stopped_worker_leaves_its_run_unfinished(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    worker = worker_of(path, "")
    point = next(iter(worker.points.values()))
    worker.stop(signal.SIGTERM)
    assert worker.run(point) == "stopped"
    assert worker.folders.state(point) == "unfinished"


def test_a_run_that_was_killed_before_its_results_is_trained_anew(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    study = read_study(path)
    point = next(iter(points_of(study).values()))
    # all is trained, so `fit` ends at once; its results are not there
    version = RunFolders(tmp_path / "out").of(point) / "version_0"
    version.mkdir(parents=True)
    (version / "results.json").write_text(json.dumps({"metrics": {}, "steps": None}))
    assert run(path).failures == {}
    assert starts(tmp_path / "out")[point.name.split("/")[1]] == 2


@pytest.mark.skipif(not hasattr(os, "setresuid") or os.geteuid() != 0, reason="mounts need root")
def test_a_full_disk_ends_no_study_for_good(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import subprocess  # noqa: PLC0415

    path = write_study(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    mounted = subprocess.run(
        [*MOUNT, "-t", "tmpfs", "-o", "size=512k", "none", str(out)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        (out / "ballast").write_bytes(b"0" * 350_000)
        with suppress(OSError, ValueError):
            run(path)
        said = f"; the disk that holds {out} is full: free some space, start again"
        assert said in capfd.readouterr().err
        (out / "ballast").unlink()
        subprocess.run([*MOUNT, "-o", "remount,size=64m", str(out)], check=True)
        ended = run(path, retry_failed=True)
        assert ended.progress.is_over
        assert ended.failures == {}
        report = as_dict(report_of(read_study(path), out))
    finally:
        subprocess.run(["/bin/umount", "-l", str(out)], check=False)
    run(path)  # undisturbed, below the mount
    assert report == as_dict(report_of(read_study(path), out))


def test_every_method_has_as_many_trials(tmp_path: Path) -> None:
    from tests.studies import content  # noqa: PLC0415
    from tests.study.test_sections import SEARCH  # noqa: PLC0415

    study = read_study(write_study(tmp_path, content(search=SEARCH)))
    assert study.search is not None
    counts = Counter(
        point.group
        for point in points_of(study).values()
        if point.trial is not None and point.values.get(SEED) == study.search.seed
    )
    assert counts == {("scratch",): 3, ("full",): 3}
