from __future__ import annotations

import json
from pathlib import Path

from tl.serving.run_scores import run_scores


def test_a_test_of_another_checkpoint_does_not_count(tmp_path: Path) -> None:
    run = tmp_path / "study" / "target" / "method=a-seed=0-1234" / "version_0"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("{}")
    evaluated = {
        "test": {
            "checkpoint": "checkpoints/best.ckpt",
            "metrics": {"test/acc": 0.75},
            "samples": {"ten": {"from": 30, "of": 30}},
        }
    }
    (run / "results.json").write_text(json.dumps({"evaluated": evaluated}))
    recorded = {"val/acc": 0.5, "lr/head": 0.1}
    best = run_scores(run / "checkpoints" / "best.ckpt", recorded)
    assert best.metrics == {"val/acc": 0.5, "test/acc": 0.75}
    assert best.samples["test"]["ten"]["of"] == 30
    assert run_scores(run / "checkpoints" / "last.ckpt", recorded).metrics == {"val/acc": 0.5}
    assert (best.study, best.seeds) == (None, {})
    study = tmp_path / "study"
    interval = {"values": [0.75, 0.7], "mean": 0.725, "half_width": 0.3}
    report = {
        "study": "methods",
        "cells": [
            {"row": {"method": "b"}, "metrics": {}},
            {"row": {"method": "a"}, "metrics": {"test/acc": interval}},
        ],
    }
    (study / "report.json").write_text(json.dumps(report))
    (study / "runs.csv").write_text("run,method\ntarget/method=a-seed=0-1234,a\n")
    found = run_scores(run / "checkpoints" / "best.ckpt", recorded)
    assert found.study == "methods"
    assert found.seeds == {"test/acc": (0.725, 0.3, 2)}
    for broken in ("[1]", '{"study": "methods", "cells": [{"row": 1}]}', "{"):
        (study / "report.json").write_text(broken)
        assert run_scores(run / "checkpoints" / "best.ckpt", recorded).study is None


def test_an_adapted_test_is_not_the_score_of_the_weights(tmp_path: Path) -> None:
    run = tmp_path / "version_0"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("{}")
    test = {
        "checkpoint": "checkpoints/best.ckpt",
        "metrics": {"test/acc": 0.75},
        "adaptation": [{"name": "AdaBN"}],
    }
    (run / "results.json").write_text(json.dumps({"evaluated": {"test": test}}))
    found = run_scores(run / "checkpoints" / "best.ckpt", {"val/acc": 0.5})
    assert found.metrics == {"val/acc": 0.5}
    assert found.set_aside == "adaptation AdaBN"


def test_a_file_outside_a_run_has_what_it_records(tmp_path: Path) -> None:
    assert run_scores(tmp_path / "a.ckpt", {"val/acc": 0.5}).metrics == {"val/acc": 0.5}
