"""Folders of images with maps, written from synthetic rooms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tl.data.dense.folder import DenseFolderDataModule
from tl.data.dense.listing import find_files
from tl.data.dense.reading import MapReader
from tl.data.dense.sample_reader import DenseReader
from tl.data.synthetic.scenes import draw_scenes
from tl.tasks import BinaryMap, Depth, Normals, Segmentation, Task

TASKS: tuple[Task, ...] = (
    Segmentation("segmentation", 6),
    Depth("depth"),
    Normals("normals"),
    BinaryMap("floor"),
)
MILLIMETRES = {"depth": 0.001}


def reader(folder: Path) -> DenseReader:
    """Read the files of a split, of 12x16 pixels."""
    readers = {t.name: MapReader(t.name, t, None, MILLIMETRES.get(t.name)) for t in TASKS}
    return DenseReader(find_files(folder, "image", list(readers), ""), readers, (12, 16), False)


def write_files(
    root: Path, splits: dict[str, int] | None = None, size: tuple[int, int] = (12, 16)
) -> Path:
    """Write png images with png classes, 16-bit png depths in millimetres, npy normals, masks."""
    for seed, (split, count) in enumerate((splits or {"train": 10, "test": 4}).items()):
        scenes = draw_scenes(count, size, seed=seed)
        folders = {
            name: root / split / name
            for name in ("image", "segmentation", "depth", "normals", "floor")
        }
        for folder in folders.values():
            folder.mkdir(parents=True)
        for i in range(count):
            kinds = scenes.segmentation[i].numpy()
            millimetres = (scenes.depth[i, 0] * 1000).round().numpy().astype(np.uint16)
            pictures = {
                "image": scenes.images[i].permute(1, 2, 0).numpy(),
                "segmentation": kinds,
                "depth": millimetres,
                "floor": (kinds == 1).astype(np.uint8) * 255,
            }
            for name, picture in pictures.items():
                Image.fromarray(picture).save(folders[name] / f"{i:03}.png")
            np.save(folders["normals"] / f"{i:03}.npy", scenes.normals[i].numpy())
    return root


def write_published(
    root: Path,
    splits: dict[str, int] | None = None,
    size: tuple[int, int] = (12, 16),
    classes: int = 13,
    *,
    inverse: bool = False,
) -> Path:
    """Write the preprocessed arrays of NYUv2, or of Cityscapes with inverse depths, in small."""
    for seed, (split, count) in enumerate((splits or {"train": 10, "val": 4}).items()):
        scenes = draw_scenes(count, size, seed=seed)
        for name in ("image", "label", "depth", *(() if inverse else ("normal",))):
            (root / split / name).mkdir(parents=True)
        for i in range(count):
            depth = scenes.depth[i].permute(1, 2, 0).double().numpy()
            label = scenes.segmentation[i].numpy().astype(np.float64) % classes
            normal = scenes.normals[i].permute(1, 2, 0).double().numpy() * 0.9  # as resized ones
            label[0, 0], depth[0, 1], normal[0, 2] = -1, 0, 0  # void
            known = depth > 0
            depth[known] = 0.3 / depth[known] if inverse else depth[known]
            arrays = {
                "image": scenes.images[i].permute(1, 2, 0).numpy() / 255,
                "label": label,
                "depth": depth,
                "normal": normal,
            }
            for name, array in arrays.items():
                if (root / split / name).exists():
                    np.save(root / split / name / f"{i}.npy", array)
    return root


def maps(root: Path, **given: Any) -> DenseFolderDataModule:
    """A source of what `write_files` wrote."""
    usual: dict[str, Any] = {"tasks": TASKS, "scale": MILLIMETRES, "batch_size": 4, "val_size": 0.2}
    return DenseFolderDataModule(root=str(root), **{**usual, **given})
