"""Tasks of which nothing has a target: said, and counted by what is labelled."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from tests.modules.test_kinds import KINDS, Signal, build, read, samples
from tests.small import trainer
from tl import Regression, TransferModule
from tl.callbacks import RunResults
from tl.data import TensorDataModule


def test_a_task_without_any_target_is_named_in_one_line(tmp_path: Path) -> None:
    inputs, targets = samples()
    nothing = {**targets, "d": torch.full((64, 2), torch.nan)}
    data = TensorDataModule(inputs, nothing, tasks=KINDS["mixed"], batch_size=8)
    with pytest.warns(UserWarning, match="No training sample had a target of 'd' so far") as found:
        trainer(tmp_path, max_epochs=1).fit(build(KINDS["mixed"]), data)
    assert sum("had a target" in str(one.message) for one in found) == 1
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="No training sample")
        trainer(tmp_path, max_epochs=1).fit(build(KINDS["mixed"]), read(KINDS["mixed"]))


def test_results_count_samples_with_a_target(tmp_path: Path) -> None:
    inputs, targets = samples()
    level = targets["c"].clone()
    level[::4] = torch.nan
    data = TensorDataModule(inputs, level, tasks=[Regression("c")], batch_size=8, val_size=0.5)
    run = trainer(tmp_path, logger=CSVLogger(tmp_path), callbacks=[RunResults()])
    run.fit(TransferModule(Signal(), Regression("c")), data)
    [path] = tmp_path.rglob("results.json")
    known = int((~level[data.splits["val"].rows].isnan()).sum())
    assert 0 < known < 32
    assert json.loads(path.read_text())["samples"]["val"] == {"c": {"from": known, "of": known}}
