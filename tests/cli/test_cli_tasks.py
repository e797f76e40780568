"""Other people's data modules on the command line, with tasks that the user names."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from tests.cli.test_entry import failure
from tl import MultiTaskModule, TransferModule
from tl.cli import main
from tl.tasks import Regression

PROJECT = """
import torch
from lightning.pytorch import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tl.tasks import Regression

class Encoder(nn.Module):
    num_features = 8
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 8)
        self.norm = nn.BatchNorm1d(8)
    def forward(self, inputs):
        return self.norm(self.linear(inputs["point"])).relu()

class Points(Dataset):
    def __len__(self):
        return 32
    def __getitem__(self, i):
        point = torch.tensor([i % 2, i / 32])
        targets = {"side": torch.tensor(i % 2), "height": point[1], "count": torch.tensor(i // 8)}
        return {"point": point, "number": torch.tensor(i)}, targets

class Mine(LightningDataModule):
    def __init__(self, batch_size: int = 8):
        super().__init__()
        self.batch_size = batch_size
    def train_dataloader(self):
        return DataLoader(Points(), self.batch_size, shuffle=True)
    def val_dataloader(self):
        return DataLoader(Points(), self.batch_size)
    test_dataloader = predict_dataloader = val_dataloader

class Count(Regression):
    kind = "their_count"
    def loss(self, output, target):
        return nn.functional.poisson_nll_loss(output, target)
"""
SIDE = {
    "class_path": "tl.tasks.Classification",
    "init_args": {"name": "side", "num_classes": 2, "target": "side"},
}
HEIGHT = {
    "class_path": "tl.tasks.Regression",
    "init_args": {"name": "height", "loss": "huber", "target": "height"},
}
COUNT = {"class_path": "theirs.Count", "init_args": {"name": "count", "target": "count"}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "theirs.py").write_text(PROJECT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(project: Path, model: str, epochs: int = 2, **options: Any) -> list[str]:
    """Write the configuration of a run, and return the arguments that name it."""
    given = {
        "name": "mine",
        "seed_everything": 3,
        "trainer": {
            "max_epochs": epochs,
            "accelerator": "cpu",
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
        },
        "data": {"class_path": "theirs.Mine"},
        "model": {
            "class_path": f"tl.modules.{model}",
            "init_args": {
                "backbone": {"class_path": "theirs.Encoder"},
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
                **options,
            },
        },
    }
    (project / "run.yaml").write_text(yaml.safe_dump(given))
    return ["--config", "run.yaml"]


def left(project: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """What a run has left: results, and predictions."""
    [folder] = (project / "lightning_logs" / "mine").glob("version_*")
    with (folder / "predictions.csv").open() as file:
        return json.loads((folder / "results.json").read_text()), list(csv.DictReader(file))


def test_a_task_by_its_class_path(project: Path) -> None:
    config = run(project, "TransferModule", task=HEIGHT)
    for verb in ("fit", "validate", "test", "predict"):
        main([verb, *config])
    results, rows = left(project)
    assert {"train/mae", "val/r2", "val/rmse", "test/mae"} <= set(results["metrics"])
    assert results["best"]["monitor"] == "val/mae"
    assert [row["image"] for row in rows] == [str(i) for i in range(32)]
    assert all(math.isfinite(float(row["value"])) for row in rows)
    [best] = project.rglob("best.ckpt")
    loaded = TransferModule.load_from_checkpoint(best)
    assert loaded.task == Regression("height", loss="huber", target="height")
    assert torch.serialization.get_unsafe_globals_in_checkpoint(best) == []


def test_tasks_of_several_kinds_as_a_list(project: Path) -> None:
    tasks = [SIDE, HEIGHT, COUNT]
    config = run(project, "MultiTaskModule", tasks=tasks, balancer="tl.balancing.Uncertainty")
    for verb in ("fit", "test", "predict"):
        main([verb, *config])
    results, rows = left(project)
    wanted = {"val/side/acc", "val/height/mae", "val/count/r2", "test/side/acc", "val/loss"}
    assert wanted <= set(results["metrics"])
    assert "val/acc" not in results["metrics"]
    assert results["best"]["monitor"] == "val/loss"
    assert [row["task"] for row in rows[:3]] == ["side", "height", "count"]
    assert len(rows) == 3 * 32
    [best] = project.rglob("best.ckpt")
    loaded = MultiTaskModule.load_from_checkpoint(best)
    assert [task.kind for task in loaded.tasks.values()] == [
        *("classification", "regression", "their_count")
    ]
    main(["fit", "--config", str(next(project.rglob("config.yaml")))])


def test_such_a_run_resumes_by_itself(project: Path) -> None:
    main(["fit", *run(project, "MultiTaskModule", tasks=[SIDE, HEIGHT])])
    longer = run(project, "MultiTaskModule", epochs=3, tasks=[SIDE, HEIGHT])
    main(["fit", *longer, "--resume", "auto"])
    lasts = [torch.load(path, weights_only=True) for path in project.rglob("last.ckpt")]
    assert max(last["global_step"] for last in lasts) == 3 * 4


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("TransferModule", {}, "`model.init_args.task`"),
        ("MultiTaskModule", {}, "`model.init_args.tasks`"),
        ("MultiTaskModule", {"tasks": []}, "`model.init_args.tasks`"),
        (
            "TransferModule",
            {"task": {"class_path": "tl.tasks.Regresion", "init_args": {"name": "a"}}},
            "Regresion",
        ),
        (
            "TransferModule",
            {"task": {"class_path": "tl.tasks.Regression", "init_args": {"name": "a", "out": 2}}},
            "out",
        ),
        ("TransferModule", {"task": {**HEIGHT, "init_args": {"name": "a", "outputs": 0}}}, "got 0"),
        (
            "TransferModule",
            {"task": {"class_path": "tl.tasks.Regression", "init_args": {"name": "height"}}},
            "reads the target None, the data have side, height, count",
        ),
        (
            "TransferModule",
            {"task": {**SIDE, "init_args": {**SIDE["init_args"], "target": "height"}}},  # type: ignore[dict-item]
            "is a classification, and sample",
        ),
        ("TransferModule", {"task": {"name": "a", "kind": "shadow"}}, "shadow"),
    ],
)
def test_a_task_that_is_missing_or_wrong_is_one_line(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    model: str,
    options: dict[str, Any],
    said: str,
) -> None:
    code, line = failure(capsys, "fit", *run(project, model, **options))
    assert said in line
    assert code == 2


def test_tasks_of_data_that_tell_theirs_are_not_given_again(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = run(project, "MultiTaskModule", tasks=[SIDE])
    tells = "--data=tl.data.GeneratedDataModule"
    _, line = failure(capsys, "fit", *config, tells)
    assert "`model.init_args.tasks` follows from the data" in line


@pytest.mark.parametrize(
    ("model", "given"),
    [("TransferModule", {"task": HEIGHT}), ("MultiTaskModule", {"tasks": [SIDE]})],
)
def test_a_checkpoint_alone_tells_its_tasks(
    project: Path, model: str, given: dict[str, Any]
) -> None:
    main(["fit", *run(project, model, epochs=1, **given)])
    [best] = project.rglob("best.ckpt")
    [saved] = project.rglob("config.yaml")
    [(key, tasks)] = given.items()
    kept = yaml.safe_load(saved.read_text())["model"]["init_args"][key]
    kept, wanted = ([kept], [tasks]) if key == "task" else (kept, tasks)
    assert [one["class_path"] for one in kept] == [one["class_path"] for one in wanted]
    saved.rename(project / "elsewhere.yaml")
    moved = best.rename(project / "best.ckpt")
    main(["test", "--ckpt_path", str(moved)])
    main(["fit", "--config", "elsewhere.yaml"])


def test_tensors_of_a_file_from_fit_to_a_greedy_average(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(40, 2, generator=generator)
    np.save(project / "heights.npy", points[:, 1].numpy())
    safetensors.torch.save_file({"point": points}, project / "points.safetensors")
    files = {"inputs": "points.safetensors", "targets": "heights.npy"}
    config = run(project, "TransferModule")
    given = yaml.safe_load((project / "run.yaml").read_text())
    given["data"] = {
        "class_path": "tl.data.TensorDataModule",
        "init_args": {
            **files,
            **{f"test_{name}": path for name, path in files.items()},
            "tasks": [{"class_path": "tl.tasks.Regression", "init_args": {"name": "height"}}],
            "batch_size": 8,
        },
    }
    (project / "run.yaml").write_text(yaml.safe_dump(given))
    main(["fit", *config])
    code, said = failure(capsys, "test", *config, "--data.init_args.test_targets=null")
    assert (code, said) == (
        2,
        "tl: `test_inputs` without targets are predicted; give `test_targets`.",
    )
    assert not list(project.rglob("version_0/test"))  # it came to no end
    for verb in ("test", "predict"):
        main([verb, *config])
    assert list(project.rglob("version_0/test/events*"))
    results, rows = left(project)
    assert results["best"]["monitor"] == "val/mae"
    assert len(rows) == 40
    paths = [str(path) for path in project.rglob("*.ckpt")]
    main(["average", *paths, "--out", "average.ckpt", "--greedy", "--accelerator", "cpu"])
    record = torch.load("average.ckpt", weights_only=True)["tl"]["provenance"]
    alone = [part["val/mae"] for part in record["ingredients"]]
    assert record["val/mae"] <= min(alone)
    main(["validate", "--ckpt_path", "average.ckpt", *config])
