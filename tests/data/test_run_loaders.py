"""What the loaders of all sources have in common."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from tests.text import read
from tl.data import GeneratedDataModule, SyntheticTextDataModule, TensorDataModule, TextDataModule
from tl.data.run_loaders import RunLoaders
from tl.tasks import Classification


def tensors() -> TensorDataModule:
    labels = torch.arange(40) % 2
    return TensorDataModule(labels[:, None].float(), labels, [Classification("a", 2)])


@pytest.mark.parametrize(
    "make", [tensors, lambda: read(train_size=40), lambda: GeneratedDataModule(train_size=40)]
)
def test_each_sample_validates_once_and_an_order_starts_anew(make: Any) -> None:
    data: RunLoaders = make()
    data.setup("fit")
    batches: Any = data.val_dataloader()
    sizes = [
        len(next(iter(targets.values())) if isinstance(targets, dict) else targets)
        for _, targets in batches
    ]
    assert sum(sizes) == len(data.splits["val"]) > 0
    data.splits["val"] = data.splits["val"].subset(torch.arange(0))
    assert data.val_dataloader() == []


def test_arguments_that_are_passed_on_are_shown() -> None:
    shown = inspect.signature(SyntheticTextDataModule).parameters
    assert {"train_size", "vocab_size", "batch_size", "label_fraction"} <= set(shown)
    assert shown["vocab_size"].default == 1000
    assert not {"text", "pair", "shared"} & set(shown)
    shown = inspect.signature(TextDataModule).parameters
    assert shown["vocab_size"].default == 8000
    assert {"text", "pair"} <= set(shown)
    with pytest.raises(TypeError, match="'batchsize'"):
        SyntheticTextDataModule(targets="topic", batchsize=3)
