from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_verbs import failure
from tests.report.test_compare import leave
from tl.cli import main


def test_runs_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(leave(tmp_path / "a" / "version_0", 0, 0.5))
    main(["compare", run])
    assert "| val/acc | 0.5 |" in capsys.readouterr().out
    main(["compare", run, "--json", f"--out={tmp_path / 'out'}"])
    assert "a" in json.loads(capsys.readouterr().out)["groups"]
    assert (tmp_path / "out" / "curves.png").exists()
    assert "holds no results.json" in failure(capsys, "compare", str(tmp_path))


def test_a_metric_without_a_place_for_its_curves_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "add --out FOLDER" in failure(capsys, "compare", str(tmp_path), "--metric=val/acc")
