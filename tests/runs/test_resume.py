"""Resuming a run, and runs that are complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runs.test_choosing import checkpoint, content, save
from tests.runs.test_same_run import BASE, changed
from tl.runs.choosing import Resumed
from tl.runs.resume import RunCompleteError, named, newest, trained, trained_nothing


def test_the_checkpoint_that_a_run_resumes_from_is_logged(tmp_path: Path, lines: list[str]) -> None:
    path = save(checkpoint(tmp_path, 0, "last.ckpt"), 30, epochs=2)
    chosen = newest(tmp_path, changed("trainer.devices", 2))
    assert chosen is not None
    assert torch.equal(chosen.content["state_dict"]["weight"], torch.arange(1000.0))
    assert lines[0] == f"tl: resuming from {path}, at step 30 in epoch 2 (counted from 0)."
    assert "not bit for bit" in lines[1]
    assert newest(tmp_path / "none", BASE) is None


def test_a_complete_run_is_no_mistake(tmp_path: Path, lines: list[str]) -> None:
    path = save(checkpoint(tmp_path, 0, "last.ckpt"), 30, epochs=5)
    with pytest.raises(RunCompleteError, match="has completed 5 of 5 epochs"):
        newest(tmp_path, BASE)
    assert newest(tmp_path, changed("trainer.max_epochs", 6)) is not None
    with pytest.raises(ValueError, match="Nothing is left to train"):
        named(str(path), BASE, trains=True)
    assert named(str(path), BASE, trains=False).path == path
    assert len(lines) == 1


def test_one_way_of_naming_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave one of them out"):
        newest(tmp_path, BASE, ckpt_path="a.ckpt")


@pytest.mark.parametrize(
    ("limits", "ended"),
    [
        ({"max_epochs": 3}, "has completed 3 of 3 epochs"),
        ({"max_epochs": -1, "max_steps": 30}, "has completed 30 of 30 steps"),
        ({"max_epochs": None, "max_steps": -1}, None),
        ({"max_epochs": 4, "max_steps": 31}, None),
        ({"callbacks": [{"class_path": "EarlyStopping"}]}, "was ended by early stopping after 3"),
        ({"callbacks": [{"class_path": "EarlyStopping"}], "min_epochs": 4}, None),
    ],
)
def test_the_end_of_a_run(limits: dict[str, Any], ended: str | None) -> None:
    stopped = {"EarlyStopping{'monitor': 'val/acc'}": {"stopped_epoch": 3}, "Other": {}}
    said = trained(content(30, epochs=3, callbacks=stopped), limits)
    assert said == ended or (ended and said and ended in said)


def test_averaging_takes_an_epoch_more_where_there_is_batch_norm() -> None:
    averages = {"max_epochs": 5, "callbacks": [{"class_path": "StochasticWeightAveraging"}]}
    assert trained(content(30, 5), averages) is not None
    normed = content(30, 5) | {"state_dict": {"norm.running_mean": torch.zeros(1)}}
    assert trained(normed, averages) is None
    assert trained(normed | {"loops": content(30, 6)["loops"]}, averages) is not None


def test_a_run_that_trained_nothing_leaves_no_folder(tmp_path: Path) -> None:
    resumed = Resumed(tmp_path / "last.ckpt", content(30))
    folder = tmp_path / "version_1"
    (folder / "checkpoints").mkdir(parents=True)
    assert not trained_nothing(31, folder, resumed)
    assert not trained_nothing(30, folder, None)
    (folder / "checkpoints" / "best.ckpt").touch()
    assert not trained_nothing(30, folder, resumed)
    (folder / "checkpoints" / "best.ckpt").unlink()
    assert trained_nothing(30, folder, resumed)
    assert not folder.exists()
