"""Tasks are named after the data, and targets that do not fit them are named by image."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.data.other_targets import OTHER, others
from tests.small import Tiny, trainer
from tl import MultiTaskModule
from tl.data import DataError, GeneratedDataModule


def test_labels_out_of_range_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = GeneratedDataModule(train_size=200, test_size=100)
    loaded = made.load("train")
    loaded.all_targets["fine"][3] = 10
    monkeypatch.setattr(made, "load", lambda _: loaded)
    said = r"train image 3 has the label 10 \(fine\), expected 0 to 9 .* so have 1 of 2\d\d images"
    with pytest.raises(DataError, match=said):
        made.setup("fit")


def test_targets_of_any_kind_train_and_are_described(tmp_path: Path) -> None:
    source = others("age", "signs", "fine")
    built = MultiTaskModule(Tiny(), source.tasks)
    run = trainer(tmp_path, max_epochs=1, limit_val_batches=1)  # a part, of every class
    run.fit(built, source)
    assert {"val/age/r2", "val/signs/map", "val/fine/acc"} <= set(run.callback_metrics)
    assert source.class_names == {name: OTHER[name][1] for name in ("signs", "fine")}
    assert source.num_classes == {"signs": 4, "fine": 10}
    assert source.describe()["classes"] == {"age": 0, "signs": 4, "fine": 10}


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("signs", torch.full((200, 4), 2), "generated10: train images: .*'signs'"),
        ("surface", torch.full((200, 32, 32), 3), "generated10: train images: .*'surface'"),
        ("age", torch.rand(200, 3), "generated10: train images: .*'age'"),
    ],
)
def test_targets_of_any_kind_are_checked(
    name: str, wrong: Tensor, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = others(name)
    loaded = made.load("train")
    loaded.all_targets[name] = wrong
    monkeypatch.setattr(made, "load", lambda _: loaded)
    with pytest.raises(DataError, match=said) as error:
        made.setup("fit")
    assert "\n" not in str(error.value)
