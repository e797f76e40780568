from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.test_entry import failure
from tl.cli import main

ROOT = Path(__file__).resolve().parents[2]


def quick(folder: Path) -> list[str]:
    return [
        *("--config", "configs/source_cifar10.yaml", "--config", "configs/overlays/quick.yaml"),
        *("--data.init_args.generated_size=100", "--model.init_args.backbone=tests.small.Tiny"),
        *("--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--dashboard.graph=false"),
        *("--trainer.enable_progress_bar=false", f"--log_dir={folder}"),
        "--dashboard.every_n_epochs=0",
    ]


def test_one_command_tests_under_shifts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    main(["fit", *quick(tmp_path)])
    capsys.readouterr()
    main(["test", *quick(tmp_path), "--shifts=[contrast,jpeg]", "--severities=[1,5]"])
    said = capsys.readouterr()
    assert "| cifar10 acc, % | 1 | 5 | mean |" in said.out
    assert said.err.count("GENERATED IMAGES") <= 3  # those of the test itself
    run = tmp_path / "source_cifar10" / "version_0"
    record = json.loads((run / "shifts_severity_1_5.json").read_text())
    assert (run / "shifts_severity_1_5.png").exists()
    assert record["checkpoint"].endswith("best.ckpt")
    assert set(record["tasks"]["cifar10"]["shifts"]) == {"contrast", "jpeg"}
    # what the run itself reached is as it was
    results = json.loads((run / "results.json").read_text())
    assert results["metrics"]["test/acc"] == record["tasks"]["cifar10"]["clean"]
    assert "shift" not in results["evaluated"]["test"]["data"]["cifar10"]
    assert yaml.safe_load((run / "config.yaml").read_text())["shifts"] is None


@pytest.mark.parametrize(
    ("verb", "options", "line"),
    [
        ("test", ["--shifts=all", "--severities=[0]"], "must be 1, 2, 3, 4 or 5, got 0"),
        ("test", ["--shifts=snow"], "There is no shift 'snow'; choose"),
        ("test", ["--severities=[1]"], "give --shifts too, such as all"),
        ("fit", ["--shifts=all"], "`shifts` are for `test`, not for `fit`"),
        (
            "fit",
            ["--data.init_args.shift.name=fog", "--data.init_args.shift.severity=9"],
            "must be 1, 2, 3, 4 or 5, got 9",
        ),
    ],
)
def test_mistakes_end_in_one_line(
    verb: str,
    options: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    code, said = failure(capsys, verb, *quick(tmp_path), *options)
    assert code == 2
    assert line in said
    assert not list(tmp_path.rglob("*.ckpt"))
