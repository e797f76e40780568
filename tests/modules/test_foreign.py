from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from tests.small import Tiny, trainer
from tl import Classification, TransferModule


class Foreign(LightningDataModule):
    """Loaders as people write them."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__()
        self.given, self.named = given, named

    def predict_dataloader(self) -> DataLoader[Any]:
        images = torch.randn(10, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(images, torch.arange(10)), *self.given, **self.named)


@pytest.mark.parametrize(
    "data", [Foreign(4), Foreign(batch_size=4), Foreign(4, False), Foreign(4, drop_last=True)]
)
def test_a_batch_size_by_position_does_not_keep_from_predicting(
    data: Foreign, tmp_path: Path
) -> None:
    module = TransferModule(Tiny(), Classification("a", 3))
    found = trainer(tmp_path).predict(module, data)
    assert found is not None
    parts: Any = found
    assert [len(part["a"][0]) for part in parts] == [4, 4, 2]
    assert torch.cat([part["a"][1] for part in parts]).tolist() == list(range(10))
