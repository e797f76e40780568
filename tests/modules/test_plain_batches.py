from __future__ import annotations

import pytest
import torch
from lightning.pytorch import LightningDataModule

from tests.small import tiny_data
from tl.modules.plain_batches import plain_batches


def test_all_training_images_come_once_and_not_augmented() -> None:
    data = tiny_data()
    data.setup("fit")
    first, second = (list(plain_batches(data, data.tasks[0], size=50)) for _ in range(2))
    assert [len(target) for _, target in first] == [50, 50, 10]
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_foreign_data_are_refused() -> None:
    task = tiny_data().tasks[0]
    with pytest.raises(ValueError, match=r"data module of tl\.data, got Lightning"):
        list(plain_batches(LightningDataModule(), task))
