"""The picture of synthetic rooms in the manual.

    python -m scripts.manual.rooms

Eight rooms by day, then eight by night, with `SyntheticScenesDataModule`'s default options. Below
each image: classes, depth (near is bright) and normals.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from tl.data.synthetic.scenes import SURFACES, Look, draw_scenes
from tl.tasks.palette import class_colours, direction_colours

PICTURE = Path(__file__).resolve().parents[1] / "rooms.png"
_GAP = 4  # pixels


def rooms(count: int = 8, size: int = 96) -> Tensor:
    """Return the picture, bytes ``(3, H, W)``.

    Args:
        count: Rooms of each look.
        size: Pixels of a side of each.
    """
    rows = []
    for look in get_args(Look):
        scenes = draw_scenes(count, size, look=look)
        nearness = scenes.depth.amin() / scenes.depth
        shown = (
            scenes.images.movedim(1, -1).float() / 255,
            class_colours(scenes.segmentation.long(), len(SURFACES)),
            nearness.movedim(1, -1).expand(-1, -1, -1, 3),
            direction_colours(scenes.normals),
        )
        rows += [functional.pad(each.movedim(-1, 1), (_GAP,) * 4, value=1.0) for each in shown]
    whole = torch.cat([torch.cat([*row], dim=2) for row in rows], dim=1)
    return (255 * whole.clamp(0, 1)).round().byte()


if __name__ == "__main__":
    Image.fromarray(rooms().permute(1, 2, 0).numpy()).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size} bytes")
