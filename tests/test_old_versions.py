"""Checkpoints and configurations of earlier versions; each file was written by that version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tl.cli import main

FILES = Path(__file__).parent
ROOT = FILES.parent


@pytest.mark.parametrize("kind", ["transfer", "multitask"])
def test_version_0_1_0_is_evaluated_and_resumed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    old = tmp_path / "old"
    shutil.copytree(FILES / "version_0_1_0" / kind, old)
    given = ["--config", str(old / "config.yaml"), "--ckpt_path", str(old / "last.ckpt")]
    main(["validate", *given, "--name=again", f"--log_dir={tmp_path}"])
    again = json.loads((tmp_path / "again/version_0/results.json").read_text())
    then = json.loads((old / "results.json").read_text())
    names = [name for name in then["metrics"] if name.startswith("val/")]
    assert len(names) >= 2
    assert {n: again["metrics"][n] for n in names} == pytest.approx(
        {n: then["metrics"][n] for n in names}
    )
    main(["fit", *given, "--name=more", f"--log_dir={tmp_path}", "--trainer.max_epochs=2"])
    saved = torch.load(tmp_path / "more/version_0/checkpoints/last.ckpt", weights_only=True)
    assert saved["epoch"] == 1
    assert all(task["kind"] == "classification" for task in saved["tl"]["tasks"])
