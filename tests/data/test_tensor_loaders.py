"""Orders of arrays in memory, and what is tested and predicted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.test_tensors import KIND, Flat, labels, pictures, read
from tests.small import trainer
from tl import TransferModule
from tl.data.errors import DataError


def test_every_epoch_has_an_order_of_its_own() -> None:
    data = read(torch.arange(40)[:, None], labels(), val_size=0.0)
    data.setup("fit")
    assert data.val_dataloader() == []
    loader = data.train_dataloader()
    epochs = []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        epochs.append(torch.cat([batch for batch, _ in loader]).flatten().tolist())
    assert sorted(epochs[0]) == list(range(40))
    assert epochs[0] != epochs[1]


def test_tests_and_predictions(tmp_path: Path) -> None:
    images, numbers = pictures(), labels()
    data = read(images, numbers, test_inputs=pictures(9, seed=1), test_targets=labels(9))
    module, run = TransferModule(Flat(), KIND), trainer(tmp_path)
    run.fit(module, data)
    [tested] = run.test(module, data, verbose=False)
    assert set(tested) == {"test/acc", "test/loss"}
    assert module.samples["test"] == {"kind": 9}
    found: Any = run.predict(module, data)
    assert torch.cat([part["kind"][1] for part in found]).tolist() == list(range(9))
    unlabelled = read(images, numbers, test_inputs=pictures(9, seed=1))
    again: Any = trainer(tmp_path).predict(module, unlabelled)
    for one, two in zip(found, again, strict=True):
        assert torch.equal(one["kind"][0], two["kind"][0])
    without = read(images, numbers)
    whole: Any = trainer(tmp_path).predict(module, without)
    assert torch.cat([part["kind"][1] for part in whole]).tolist() == list(range(40))
    with pytest.raises(DataError, match="give `test_inputs` and `test_targets`"):
        trainer(tmp_path).test(module, without, verbose=False)
    with pytest.raises(DataError, match="give `test_targets`"):
        trainer(tmp_path).test(module, unlabelled, verbose=False)
