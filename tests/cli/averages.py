"""Runs of `tests.small` and their checkpoints, for averages of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from tests.small import module as tiny_module
from tests.small import tiny_data, trainer
from tl.cli.averaging import average_checkpoints


def configuration(**data: Any) -> dict[str, Any]:
    """What the command line would have written for a run of `tests.small`."""
    given = {"train_size": 120, "test_size": 30, "batch_size": 20, **data}
    backbone = {"class_path": "tests.small.Tiny"}
    return {
        "name": "a",
        "model": {"class_path": "tl.modules.TransferModule", "init_args": {"backbone": backbone}},
        "data": {"class_path": "tl.data.GeneratedDataModule", "init_args": given},
    }


def make_run(folder: Path, seed: int, **data: Any) -> Path:
    """A run's folder as the command line leaves it; returns the checkpoint."""
    source = tiny_data(**data)
    net = tiny_module(source)
    torch.manual_seed(seed)
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    run = trainer(folder, max_epochs=1, limit_train_batches=2)
    run.fit(net, source)
    path = folder / "checkpoints" / "best.ckpt"
    run.save_checkpoint(path)
    (folder / "config.yaml").write_text(yaml.safe_dump(configuration(**data)))
    return path


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def weights(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = read(path)["state_dict"]
    return state


def average(paths: list[Path], out: Path, **options: Any) -> str:
    return average_checkpoints(paths, out, **{"accelerator": "cpu", **options})
