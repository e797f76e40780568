"""Tiny runs for tests of what watches them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from tl import GeneratedDataModule, MultiTaskDataModule, MultiTaskModule, TransferModule
from tl.transfer import LPFT, LayerWiseDecay, Strategy, SurgicalFineTuning
from tl.transfer.freezing import BatchNormMode


class Tiny(nn.Module):
    """The smallest backbone with batch norm."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=4)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, images: Tensor) -> Tensor:
        """Return features ``(N, 8)``."""
        features: Tensor = self.norm(self.conv(images)).relu().mean((2, 3))
        return features


class Staged(nn.Module):
    """A backbone of three stages, each with batch norm."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 4, 4, stride=4, bias=False), nn.BatchNorm2d(4), nn.ReLU()
        )
        self.layer1 = nn.Sequential(
            nn.Conv2d(4, 6, 2, stride=2, bias=False), nn.BatchNorm2d(6), nn.ReLU()
        )
        self.layer2 = nn.Sequential(
            nn.Conv2d(6, 8, 2, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return features ``(N, 8)``."""
        features: Tensor = self.layer2(self.layer1(self.stem(images))).mean((2, 3))
        return features

    def stages(self) -> dict[str, list[nn.Module]]:
        """Name the parts."""
        return {"stem": [self.stem], "layer1": [self.layer1], "layer2": [self.layer2]}


ARGUMENTS: dict[type[Strategy], dict[str, Any]] = {
    LPFT: {"probe_epochs": 2, "backbone_lr": 0.5},
    SurgicalFineTuning: {"stages": ["layer1", "head"]},
}


def every_strategy(bn: BatchNormMode = "train") -> list[Strategy]:
    """One of each kind, for a run of five epochs of :class:`Staged`."""
    # those on parts of layers have own tests
    kinds: list[type[Strategy]] = [*Strategy.__subclasses__(), LayerWiseDecay]
    ours = [kind for kind in kinds if kind.__module__.startswith("tl.")]
    return [kind(**ARGUMENTS.get(kind, {}), bn=bn) for kind in ours]


def name_of(strategy: Strategy) -> str:
    """Its name, for test ids."""
    return type(strategy).__name__


def tiny_data(**settings: Any) -> GeneratedDataModule:
    """120 drawn images of 10 classes, of which 10 validate."""
    given = {"train_size": 120, "test_size": 30, "batch_size": 20, **settings}
    return GeneratedDataModule(**given)


def one_source(**settings: Any) -> MultiTaskDataModule:
    """The first of the two sources alone."""
    ten = GeneratedDataModule(train_size=100, test_size=20)
    return MultiTaskDataModule(sources={"ten": ten}, **{"batch_size": 30, **settings})


def two_sources(**settings: Any) -> MultiTaskDataModule:
    """Two sources with three tasks."""
    return MultiTaskDataModule(
        sources={
            "ten": GeneratedDataModule(train_size=100, test_size=20),
            "hundred": GeneratedDataModule(
                classes=100, train_size=200, test_size=100, targets="both"
            ),
        },
        **{"batch_size": 30, **settings},
    )


def module(
    data: GeneratedDataModule, net: type[nn.Module] = Tiny, **settings: Any
) -> TransferModule:
    """A module for one source."""
    torch.manual_seed(0)
    return TransferModule(net(), data.tasks[0], **settings)


def multitask_module(
    data: MultiTaskDataModule, net: type[nn.Module] = Tiny, **settings: Any
) -> MultiTaskModule:
    """A module for several sources."""
    torch.manual_seed(0)
    return MultiTaskModule(net(), data.tasks, **settings)


def trainer(folder: Path, **settings: Any) -> Trainer:
    """A trainer that is quiet and quick."""
    return Trainer(
        **{
            "max_epochs": 2,
            "logger": False,
            "default_root_dir": folder,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "accelerator": "cpu",
            "log_every_n_steps": 1,
            **settings,
        }
    )
