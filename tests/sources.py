"""Checkpoints that know how their network is built, without the command line's seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.small import trainer
from tests.text import CONFIG, build
from tl import TransferModule
from tl.backbones import ResNet20
from tl.callbacks import AtomicCheckpointIO

MODEL = {
    "class_path": "tl.modules.TransferModule",
    "init_args": {"backbone": {"class_path": "tl.backbones.ResNet20"}},
}


def saved_source(folder: Path, data: Any, seed: int = 0, **options: Any) -> Path:
    """Train a ResNet-20 for two steps; return its checkpoint."""
    torch.manual_seed(seed)
    network = TransferModule(ResNet20(), data.task, **options)
    files = AtomicCheckpointIO()
    files.configuration = {"model": MODEL}
    keep = ModelCheckpoint(folder / f"run_{seed}" / "version_0" / "checkpoints", "last")
    run = trainer(
        folder,
        max_epochs=1,
        limit_train_batches=2,
        enable_checkpointing=True,
        callbacks=[keep],
        plugins=[files],
    )
    run.fit(network, data)
    run.save_checkpoint(Path(str(keep.dirpath)) / "last.ckpt")
    return Path(str(keep.dirpath)) / "last.ckpt"


def saved_text_source(folder: Path, data: Any) -> Path:
    """Train a tiny transformer for two steps; return its checkpoint."""
    files = AtomicCheckpointIO()
    network = {"class_path": "tl.backbones.TextBackbone", "init_args": {"config": CONFIG}}
    arguments = {"backbone": network}
    files.configuration = {
        "model": {"class_path": "tl.modules.TransferModule", "init_args": arguments}
    }
    run = trainer(folder, max_epochs=1, limit_train_batches=2, plugins=[files])
    run.fit(build(data), data)
    run.save_checkpoint(folder / "text.ckpt")
    return folder / "text.ckpt"
