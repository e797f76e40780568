from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from tests.runs import module, multitask_module, tiny_data, trainer, two_sources
from tl.callbacks import PredictionWriter
from tl.callbacks.predictions import COLUMNS, write_csv


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_predictions_are_those_of_the_model_in_order(tmp_path: Path) -> None:
    data = tiny_data(eval_batch_size=7)
    ours = module(data)
    run = trainer(tmp_path, callbacks=[PredictionWriter(str(tmp_path / "out.csv"))])
    run.predict(ours, data, return_predictions=False)
    rows = read(tmp_path / "out.csv")
    assert tuple(rows[0]) == COLUMNS
    assert [row["image"] for row in rows] == [str(i) for i in range(30)]
    images = data.splits["test"].pixels(torch.arange(30)).permute(0, 3, 1, 2)
    ours.eval()
    with torch.no_grad():
        logits = ours(data.transform((images, torch.zeros(30)), None)[0])
    chances, classes = logits.softmax(1).max(1)
    names = data.class_names["generated10"]
    for row, chance, number in zip(rows, chances.tolist(), classes.tolist(), strict=True):
        assert row["class"] == str(number)
        assert row["class_name"] == names[number]
        assert float(row["probability"]) == pytest.approx(chance, abs=1e-5)
        assert row["top5"].startswith(f"{names[number]} {chance:.4f}; ")
        assert len(row["top5"].split("; ")) == 5


def test_each_source_is_answered_by_its_own_tasks(tmp_path: Path) -> None:
    data = two_sources(eval_batch_size=30)
    run = trainer(tmp_path, callbacks=[PredictionWriter()])
    run.predict(multitask_module(data), data, return_predictions=False)
    rows = read(tmp_path / "predictions.csv")
    counts = {task: sum(row["task"] == task for row in rows) for task in ("ten", "hundred_fine")}
    assert counts == {"ten": 20, "hundred_fine": 100}
    assert len(rows) == 20 + 2 * 100
    groups = set(data.class_names["hundred_coarse"])
    assert {r["class_name"] for r in rows if r["task"] == "hundred_coarse"} <= groups


def test_images_of_a_foreign_data_module_are_counted(tmp_path: Path) -> None:
    class Plain(LightningDataModule):
        def predict_dataloader(self) -> DataLoader[Any]:
            labels = torch.tensor([2, 0, 2, 1, 0])
            return DataLoader(TensorDataset(torch.randn(5, 3, 8, 8), labels), batch_size=2)

    run = trainer(tmp_path, callbacks=[PredictionWriter()])
    run.predict(module(tiny_data()), Plain(), return_predictions=False)
    assert [row["image"] for row in read(tmp_path / "predictions.csv")] == list("01234")


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        folder = tmp_path / "file"
        folder.touch()  # even the superuser cannot write below a file
    else:
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
    with pytest.raises(OSError, match=r"file|locked"):
        write_csv(folder / "out.csv", [])
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_cells_are_not_formulas_and_names_may_have_other_bytes(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    name = os.fsdecode(b"caf\xe9.png")
    write_csv(
        path,
        [(name, "task", 0, "=SUM(A1)", "0.9", "-a 0.9; b 0.1"), ("@x", "+t", 1, "a=b", "", "")],
    )
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    assert rows[0] == ["caf\\udce9.png", "task", "0", "'=SUM(A1)", "0.9", "'-a 0.9; b 0.1"]
    assert rows[1] == ["'@x", "'+t", "1", "a=b", "", ""]


def test_images_of_several_loaders_are_told_apart(tmp_path: Path) -> None:
    class Two(LightningDataModule):
        def predict_dataloader(self) -> list[DataLoader[Any]]:
            images = TensorDataset(torch.randn(2, 3, 8, 8), torch.zeros(2))
            return [DataLoader(images, batch_size=2) for _ in range(2)]

    run = trainer(tmp_path, callbacks=[PredictionWriter()])
    run.predict(module(tiny_data()), Two(), return_predictions=False)
    names = [row["image"] for row in read(tmp_path / "predictions.csv")]
    assert names == [f"{i}/dataloader_idx_{loader}" for loader in (0, 1) for i in (0, 1)]
