"""Tasks and targets that do not fit, on the command line: one line, before training."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.test_cli_tasks import HEIGHT, PROJECT, run
from tests.cli.test_entry import failure
from tl.cli import main

MORE = """
from torch.utils.data import default_collate

def uneven(rows):
    inputs, targets = default_collate(rows)
    return {**inputs, "number": inputs["number"][:3]}, targets

class Uneven(Mine):
    def train_dataloader(self):
        return DataLoader(Points(), batch_size=self.batch_size, collate_fn=uneven)
    val_dataloader = train_dataloader

class Headless(Regression):
    def head(self, num_features):
        return num_features

class Undecided(Regression):
    score = "deviance"

class Inverted(Regression):
    score = "r2"

class Unsummed(Regression):
    def loss(self, output, target):
        return (output - target) ** 2
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "theirs.py").write_text(PROJECT + MORE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def height(path: str, **options: Any) -> dict[str, Any]:
    return {"class_path": path, "init_args": {"name": "height", "target": "height", **options}}


@pytest.mark.parametrize(
    ("task", "data", "said"),
    [
        (
            height("tl.tasks.Segmentation", num_classes=3),
            "Mine",
            "reads maps, and the backbone Encoder gives vectors only",
        ),
        (
            height("tl.tasks.Regression", outputs=2),
            "Mine",
            "are of shape (8,); expected numbers of shape (N, 2), NaN if missing",
        ),
        (HEIGHT, "Uneven", "must have one number of samples, got point 8, number 3"),
        (height("theirs.Headless"), "Mine", "is a int; expected a torch.nn.Module"),
        (height("theirs.Undecided"), "Mine", "names the score 'deviance', which its `scores()`"),
        (height("theirs.Inverted"), "Mine", "set `higher_is_better` to True"),
        (height("theirs.Unsummed"), "Mine", "is a tensor of shape (8, 1); expected a scalar"),
    ],
)
def test_what_does_not_fit_is_one_line(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    task: dict[str, Any],
    data: str,
    said: str,
) -> None:
    config = run(project, "TransferModule", task=task)
    code, line = failure(capsys, "fit", *config, f"--data=theirs.{data}")
    assert said in line
    assert code == 2
    assert not list(project.rglob("*.ckpt"))


def test_a_checkpoint_of_a_kind_that_is_not_known_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = run(project, "TransferModule", epochs=1, task=height("theirs.Count"))
    main(["fit", *config])
    content = torch.load(next(project.rglob("best.ckpt")), weights_only=True)
    content["tl"]["tasks"][0]["kind"] = "shadow"
    torch.save(content, project / "shadow.ckpt")
    config = run(project, "TransferModule", epochs=3, task=height("theirs.Count"))
    for verb in ("fit", "test"):
        code, line = failure(capsys, verb, *config, "--ckpt_path", "shadow.ckpt")
        assert "'height' is of the kind 'shadow', which this version of tl does not know" in line
        assert code == 2
