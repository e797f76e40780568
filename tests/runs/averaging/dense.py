"""Runs of dense tasks on tiny rooms, whose decoders have batch norm, for averages of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from tests.data.dense.written import MILLIMETRES, write_files
from tests.small import trainer
from tl import DenseFolderDataModule, MultiTaskDataModule, MultiTaskModule
from tl.tasks import Depth, Segmentation, Task

PYRAMID = "tl.tasks.decoders.FeaturePyramid"


class TinyMaps(nn.Module):
    """The smallest backbone with batch norm and maps."""

    num_features = 6
    map_channels = (4, 6)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.BatchNorm2d(4), nn.ReLU())
        self.layer1 = nn.Sequential(nn.Conv2d(4, 6, 2, stride=2), nn.BatchNorm2d(6), nn.ReLU())

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the maps of both stages."""
        first = self.stem(images)
        return [first, self.layer1(first)]

    def pool(self, maps: list[Tensor]) -> Tensor:
        """Return features ``(N, 6)``."""
        return maps[-1].mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Return features ``(N, 6)``."""
        return self.pool(self.maps(images))


class Rooms:
    """Two sources of rooms, one with classes of pixels and one with depths.

    Args:
        folder: Folder for data, configurations and checkpoints.
        decoder: Class path of the heads.
    """

    def __init__(self, folder: Path, decoder: str = PYRAMID) -> None:
        self.folder = folder
        self.tasks: dict[str, Task] = {
            "classes": Segmentation("classes", 6, target="segmentation", decoder=decoder, width=4),
            "metres": Depth("metres", target="depth", decoder=decoder, width=4),
        }
        for name, count in (("classes", 20), ("metres", 24)):
            write_files(folder / name, {"train": count, "test": 4})

    def data(self, *sources: str) -> MultiTaskDataModule:
        """Return some of the sources, each under the name of its task."""
        found = {
            name: DenseFolderDataModule(
                root=str(self.folder / name),
                tasks=(self.tasks[name],),
                scale=MILLIMETRES if name == "metres" else None,
            )
            for name in sources
        }
        return MultiTaskDataModule(sources=found, batch_size=8, val_size=0.2)

    def configuration(self, *sources: str) -> Path:
        """Write the configuration of a run on some of the sources."""
        described = {}
        for name in sources:
            record = self.tasks[name].record()
            kind = type(self.tasks[name]).__name__
            arguments = {key: value for key, value in record.items() if key != "kind"}
            given: dict[str, Any] = {
                "root": str(self.folder / name),
                "tasks": [{"class_path": f"tl.tasks.{kind}", "init_args": arguments}],
            }
            if name == "metres":
                given["scale"] = MILLIMETRES
            described[name] = {"class_path": "tl.data.DenseFolderDataModule", "init_args": given}
        model = {"backbone": {"class_path": f"{__name__}.TinyMaps"}}
        data = {"sources": described, "batch_size": 8, "val_size": 0.2}
        content = {
            "model": {"class_path": "tl.modules.MultiTaskModule", "init_args": model},
            "data": {"class_path": "tl.data.MultiTaskDataModule", "init_args": data},
        }
        path = self.folder / f"{'_'.join(sources)}.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    def module(self, *sources: str, seed: int = 0, **options: Any) -> MultiTaskModule:
        """Return a network for some of the sources."""
        torch.manual_seed(seed)
        return MultiTaskModule(TinyMaps(), self.data(*sources).tasks, **options)

    def saved(self, name: str, *sources: str, seed: int = 0, **options: Any) -> Path:
        """Train a network on some of the sources for two steps, and return its checkpoint."""
        run = trainer(self.folder, max_epochs=1, limit_train_batches=2)
        run.fit(self.module(*sources, seed=seed, **options), self.data(*sources))
        path = self.folder / f"{name}.ckpt"
        run.save_checkpoint(path)
        return path
