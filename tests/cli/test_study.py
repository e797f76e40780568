"""``tl study`` as a user types it, with runs that train."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.test_verbs import failure
from tests.studies import leave_results, noise, write_study
from tl.cli import main
from tl.study.definition import define

pytest.importorskip("optuna", reason="needs tl[study]")
ROOT = Path(__file__).resolve().parents[2]


def test_status_and_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_study(tmp_path)
    assert "There is no study in" in failure(capsys, "study", "report", str(path))
    leave_results(path, tmp_path / "out", noise)
    more = [str(path), f"--out={tmp_path / 'out'}"]
    main(["study", "status", *more])
    said = capsys.readouterr().out
    assert said.startswith("small: 10 of 10 runs are done.\n  source: 2 of 2 done\n")
    main(["study", "report", *more])
    assert "| 0.1 | scratch |" in capsys.readouterr().out
    assert (tmp_path / "out" / "seeds.png").exists()
    main(["study", "status", *more, "--json"])
    assert json.loads(capsys.readouterr().out)["missing"] == []
    assert "there is no 'go' here; choose run, status, report" in failure(
        capsys, "study", "go", str(path)
    )
    assert "`--workers` must be 1 or more" in failure(capsys, "study", "run", *more, "--workers=0")
    assert "`--set` must be KEY=VALUE" in failure(capsys, "study", "status", *more, "--set=a")


def test_an_option_that_no_run_has_and_then_a_study_of_real_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    tiny = {
        "data.init_args.generated_size": 200,
        "trainer.max_steps": 2,
        "trainer.log_every_n_steps": 1,
        "trainer.accelerator": "cpu",
        "dashboard.graph": False,
        "dashboard.every_n_epochs": 0,
    }
    study = {
        "question": "Does the seed matter?",
        "stages": {
            "source": {
                "configs": ["configs/source_cifar10.yaml", "configs/overlays/quick.yaml"],
                "vary": {"seed_everything": [0]},
                "set": tiny,
            },
            "target": {
                "configs": ["configs/transfer_cifar100.yaml", "configs/overlays/quick.yaml"],
                "needs": {"source": {}},
                "vary": {"seed_everything": [0, 1]},
                "set": {**tiny, "model.init_args.init_from": "{source.best}"},
            },
        },
        "report": {"metric": "test/acc", "rows": ["data.init_args.label_fraction"]},
    }
    study["stages"]["target"]["vary"]["data.init_args.label_fraction"] = [1.0]  # type: ignore[index]
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    more = ("study", "run", str(path), f"--out={tmp_path / 'out'}")
    line = failure(capsys, *more, "--set=model.init_args.lrr=1")
    assert "stage 'source'" in line
    assert "lrr" in line
    main([*more, "--json"])
    printed = capsys.readouterr()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert json.loads(printed.out) == report
    assert "3/3 target/" in printed.err
    assert report["status"] == "3 of 3 runs are done."
    [cell] = report["cells"]
    assert cell["seeds"] == [0, 1]
    assert cell["budgets"] == [{"steps": 2, "samples": 128, "trials": 0}]
    [target, _] = (tmp_path / "out" / "target").glob("*/version_0/results.json")
    assert json.loads(target.read_text())["provenance"]


def test_a_report_of_other_runs_than_were_started_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_study(tmp_path)
    study, points = leave_results(path, tmp_path / "out", noise)
    define(study.question, points, tmp_path / "out")
    more = [str(path), f"--out={tmp_path / 'out'}"]
    for action in ("status", "report"):
        line = failure(capsys, "study", action, *more, "--set=model.size=7")
        assert "asks for none of the runs" in line
        assert 'model.size was "not set" and is 7' in line
    assert not (tmp_path / "out" / "report.md").exists()
    main(["study", "report", *more, "--set=seed_everything=[0, 2]"])
    said, warned = capsys.readouterr()
    assert "5 of 10 runs are done" in said
    assert "asks for other runs than" in warned
    (tmp_path / "out" / "study.json").write_text("{")
    main(["study", "status", *more])
    said, warned = capsys.readouterr()
    assert "10 of 10 runs are done" in said
    assert "study.json is damaged" in warned
    main(["study", "run", *more])  # nothing is left to do
    assert "study.json is damaged" in capsys.readouterr().err
    main(["study", "status", *more])
    assert not capsys.readouterr().err
