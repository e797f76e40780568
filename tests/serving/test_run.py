"""A run's folder as an object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from tl.report import frame
from tl.serving.run import Run

METRICS = """epoch,step,lr/all,train/loss,train/acc,val/loss,val/acc
,0,0.1,,,,
0,1,,,,2.0,0.25
0,1,,3.0,0.125,,
,2,0.05,,,,
1,3,,,,1.0,0.5
1,3,,1.5,0.375,,
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.ckpt").touch()
    (tmp_path / "metrics.csv").write_text(METRICS)
    best = {"checkpoint": "checkpoints/best.ckpt", "monitor": "val/acc", "score": 0.5}
    results = {"metrics": {"val/acc": 0.5}, "best": best, "epochs": 2, "seconds": 3.25}
    (tmp_path / "results.json").write_text(json.dumps(results))
    return Run(tmp_path)


def test_its_history_has_a_row_per_epoch(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "find_spec", lambda _: None)  # without pandas
    history: Any = run.history
    assert history.columns == ["epoch", "train/loss", "train/acc", "val/loss", "val/acc", "lr/all"]
    assert history["val/acc"] == [0.25, 0.5]
    assert history["train/loss"] == [3.0, 1.5]
    assert history["lr/all"] == [0.1, 0.05]


def test_its_results_and_best_checkpoint(run: Run) -> None:
    assert run.best == run.folder / "checkpoints" / "best.ckpt"
    assert run.metrics == {"val/acc": 0.5}
    assert repr(run) == f"Run {run.folder}\n  best val/acc 0.5: {run.best}\n  2 epochs, 3.25 s"


def test_its_curves(run: Run) -> None:
    figure = run.plot()
    assert isinstance(figure, Figure)
    loss, acc = figure.axes
    assert [line.get_label() for line in loss.lines] == ["train/loss", "val/loss"]
    assert np.asarray(acc.lines[1].get_ydata()).tolist() == [0.25, 0.5]
    assert len(run.plot("lr/all").axes) == 1
    with pytest.raises(ValueError, match=r"has no val/f1; it has train/loss, train/acc, val/loss"):
        run.plot("val/f1")


def test_a_line_that_was_cut_off_is_left_out(run: Run) -> None:
    (run.folder / "metrics.csv").write_text(METRICS + "2,5,,,,1.0,0.7e")
    assert [dict(row)["epoch"] for row in Run(run.folder)._epochs()] == [0, 1]
    (run.folder / "metrics.csv").write_bytes(b"\xff\xfe\0")
    assert len(Run(run.folder)._epochs()) == 0


def test_damaged_results_are_named(run: Run) -> None:
    (run.folder / "results.json").write_text('{"metrics": [1]}')
    with pytest.raises(ValueError, match=r"results\.json is damaged: `metrics` must be a mapping"):
        _ = run.metrics


def test_a_killed_run_has_what_there_is(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert (run.results, run.metrics, run.best, len(run.history)) == ({}, {}, None, 0)
    assert repr(run) == f"Run {tmp_path}"
    with pytest.raises(ValueError, match="has no loss; it has nothing"):
        run.plot()
    with pytest.raises(ValueError, match="no such run folder"):
        Run(tmp_path / "none")
