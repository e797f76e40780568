"""The smallest runs on text, for tests."""

from __future__ import annotations

from typing import Any

import torch

from tl import MultiTaskModule, TransferModule
from tl.backbones import TextBackbone
from tl.data import SyntheticTextDataModule
from tl.data.text.source import TextSource

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": 700,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}


def adam(parameters: Any) -> torch.optim.Optimizer:
    """AdamW with a rate for small models."""
    return torch.optim.AdamW(parameters, lr=3e-3)


def read(**options: Any) -> SyntheticTextDataModule:
    """130 sentences, of which 13 validate: 7 steps of 16 an epoch."""
    given = {"train_size": 130, "test_size": 40, "batch_size": 16, "targets": "topic", **options}
    return SyntheticTextDataModule(**given)


def build(data: TextSource, **options: Any) -> TransferModule | MultiTaskModule:
    """A module for all tasks of the data."""
    torch.manual_seed(0)
    given = {"optimizer": adam, **options}
    net = TextBackbone(config=CONFIG)
    if len(data.tasks) == 1:
        return TransferModule(net, data.tasks[0], **given)
    return MultiTaskModule(net, data.tasks, **given)
