"""Small folders of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from tests.small import trainer

CLASSES = ("blue", "green", "red")


def class_folders(
    folder: Path, classes: Sequence[str] = CLASSES, count: int = 8, size: int = 8, seed: int = 0
) -> Path:
    """Write noisy images of a colour per class into ``folder/<class>/<n>.png``."""
    random = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        colour = np.roll([200, 60, 60], [*CLASSES, *classes].index(name) % 3)
        for number in range(count):
            pixels = colour + random.integers(-50, 50, (size, size, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
                folder / name / f"{number}.png"
            )
    return folder


def trained(folder: Path, network: Any, data: Any, epochs: int = 3) -> Path:
    """Train a network; return its checkpoint."""
    keep = ModelCheckpoint(folder, "last", enable_version_counter=False)
    run = trainer(folder, max_epochs=epochs, enable_checkpointing=True, callbacks=[keep])
    run.fit(network, data)
    return folder / "last.ckpt"
