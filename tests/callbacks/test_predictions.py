from __future__ import annotations

import csv
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from tests.small import module, multitask_module, tiny_data, trainer, two_sources
from tl.callbacks import PredictionWriter
from tl.callbacks.predictions import RowFile, plain_cell
from tl.signals import StoppedBySignal

COLUMNS = ("image", "task", "class", "class_name", "probability", "top5")


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


class Stop(Callback):
    """Ends the run in its third batch, and notes what can be read before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[int] = []

    def on_predict_batch_start(self, *args: Any) -> None:
        self.seen.append(len(read(self.path)))
        if len(self.seen) == 3:
            raise StoppedBySignal(15)


def test_a_run_that_is_stopped_leaves_the_rows_so_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("tl.callbacks.predictions.rank_zero_info", said.append)
    data = tiny_data(eval_batch_size=7)
    part = tmp_path / "predictions.csv.part"
    part.write_text("of a run before")
    stop = Stop(part)
    for callbacks in ([PredictionWriter(), stop], [PredictionWriter()]):
        run = trainer(tmp_path, callbacks=callbacks)
        with suppress(StoppedBySignal):
            run.predict(module(data), data, return_predictions=False)
        if stop in callbacks:
            assert stop.seen == [0, 7, 14]
            rows = read(part)
            assert [row["image"] for row in rows] == [str(i) for i in range(14)]
            assert said == [f"tl: 14 predictions so far in {part}"]
            assert not (tmp_path / "predictions.csv").exists()
    assert read(tmp_path / "predictions.csv")[:14] == rows
    assert not part.exists()


def test_cells_are_not_formulas_and_names_may_have_other_bytes(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    name = os.fsdecode(b"caf\xe9.png")
    file = RowFile(path, COLUMNS)
    file.add(
        [(name, "task", 0, "=SUM(A1)", "0.9", "-a 0.9; b 0.1"), ("@x", "+t", 1, "a=b", "", "")],
    )
    rows = file.rows()
    file.close()
    assert os.fsencode(rows[0][0].encode().decode("unicode_escape")) == b"caf\xe9.png"
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


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("-0.084663", "-0.084663"),
        ("-1e-05; 2", "-1e-05; 2"),
        ("-inf", "-inf"),
        ("-1+1", "'-1+1"),
        ("=1", "'=1"),
        ("-cmd", "'-cmd"),
    ],
)
def test_negative_numbers_are_not_formulas(cell: str, wanted: str) -> None:
    assert plain_cell(cell) == wanted
