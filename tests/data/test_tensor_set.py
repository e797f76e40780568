from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.small import trainer
from tl import Classification, Regression
from tl.data import TensorDataModule
from tl.data.errors import DataError
from tl.data.tensor_set import TensorSet

KIND = Classification("kind", 3)
NUMBER = Regression("number")


def test_every_beginning_of_the_mixed_order_is_of_all_classes() -> None:
    labels = torch.arange(3).repeat_interleave(20)  # sorted, as files in folders are
    inputs = torch.zeros(60, 2)
    found = TensorSet(inputs, {"level": torch.rand(60), "kind": labels}, torch.arange(60)).mixed()
    assert sorted(found.tolist()) == list(range(60))
    assert labels[found[:6]].bincount().tolist() == [2, 2, 2]
    rows = torch.arange(20, 60)  # positions in the part, not rows of the whole
    part = TensorSet(inputs, labels, rows).mixed()
    assert labels[rows[part[:4]]].bincount().tolist() == [0, 2, 2]
    numbers = TensorSet(inputs, torch.rand(60), torch.arange(60))
    assert sorted(numbers.mixed().tolist()) == list(range(60))
    assert numbers.mixed().tolist() == numbers.mixed().tolist() != list(range(60))


def test_a_limit_reads_a_part_of_every_class(tmp_path: Path) -> None:
    labels = torch.arange(3).repeat_interleave(20)
    data = TensorDataModule(
        torch.zeros(60, 2), labels, [KIND], 6, test_inputs=torch.zeros(60, 2), test_targets=labels
    )
    data.trainer = trainer(tmp_path, limit_test_batches=1)
    data.setup("test")
    _, found = next(iter(data.test_dataloader()))
    assert found.bincount().tolist() == [2, 2, 2]
    data.trainer = trainer(tmp_path)
    assert next(iter(data.test_dataloader()))[1].tolist() == [0] * 6


def test_a_seed_that_is_set_later_splits_anew() -> None:
    data = TensorDataModule(torch.randint(9, (40, 2), dtype=torch.uint8), torch.rand(40), [NUMBER])
    folds = []
    for seed in (0, 1, 0):
        data.seed = seed
        data.setup("fit")
        folds.append((data.splits["val"].rows.tolist(), data.describe()["statistics"]))
    assert folds[0] == folds[2]
    assert folds[0][0] != folds[1][0]
    assert folds[0][1] != folds[1][1]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "x.npy"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match=r"x\.npy is a pipe or a device"):
        TensorSet.read(pipe, None, [NUMBER], "")
