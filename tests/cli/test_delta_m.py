from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_verbs import failure
from tests.report.test_against_single import leave
from tl.cli import main


def test_a_run_is_compared_with_one_of_each_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = {"test/acc": 0.5, "test/a/acc": 0.4, "test/b/acc": 0.6}
    together = leave(tmp_path / "sum", metrics, 0, a="x", b="y")
    alone = [
        f"--baseline={task}={leave(tmp_path / task, {'test/acc': 0.5}, 0, **{task: mark})}"
        for task, mark in (("a", "x"), ("b", "y"))
    ]
    main(["delta_m", str(together), *alone])
    assert "Delta_m +0.0" in capsys.readouterr().out  # (-0.1 + 0.1) / 2
    for wrong in ("a", "=folder", "a="):
        said = failure(capsys, "delta_m", str(together), f"--baseline={wrong}")
        assert f"`--baseline` must be TASK=FOLDER, got {wrong!r}" in said
