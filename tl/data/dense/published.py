"""NYUv2 and Cityscapes as preprocessed arrays, which many published codes share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tl.tasks import Depth, Normals, Segmentation, Task

#: ``files`` is a layout of the user's own.
LayoutName = Literal["files", "nyuv2", "cityscapes"]


@dataclass(frozen=True)
class Published:
    """What a preprocessed set holds, in files ``{train,val}/<folder>/<number>.npy``."""

    tasks: tuple[Task, ...]  # their targets are the folders
    void: Mapping[str, float]  # value of pixels without a target, by folder
    classes: Mapping[str, tuple[str, ...]]  # names by folder, where they are known
    arrays: str  # what they are, for messages


#: The sets of Liu et al. (2019, arXiv:1803.10704), by the name of their layout. The published codes
#: report their folder ``val``, so it is the test split here.
PUBLISHED: Mapping[str, Published] = {
    "nyuv2": Published(
        tasks=(
            Segmentation("segmentation", 13, target="label"),
            Depth("depth", target="depth"),
            Normals("normals", target="normal"),
        ),
        void={"label": -1, "depth": 0, "normal": 0},
        # the 13 classes of Couprie et al. (2013, arXiv:1301.3572), as SceneNet numbers them
        classes={
            "label": (
                *("bed", "books", "ceiling", "chair", "floor", "furniture", "objects"),
                *("picture", "sofa", "table", "tv", "wall", "window"),
            )
        },
        arrays="image (288, 384, 3) from 0 to 1, label (288, 384) from -1 to 12, depth "
        "(288, 384, 1) in metres, normal (288, 384, 3)",
    ),
    "cityscapes": Published(
        tasks=(
            Segmentation("segmentation", 7, target="label"),
            Depth("depth", target="depth", inverse=True),
        ),
        void={"label": -1, "depth": 0},
        classes={},
        arrays="image (128, 256, 3) from 0 to 1, label (128, 256) from -1 to 6, depth "
        "(128, 256, 1), which is inverse depth",
    ),
}


def expected_files(folder: Path, layout: LayoutName, image: str, maps: Sequence[str]) -> str:
    """Return in a line what files a layout expects.

    Args:
        folder: Folder of the data set.
        layout: The layout.
        image: Name of the folder of the images.
        maps: Names of the folders of maps.
    """
    names = ",".join(maps)
    if layout in PUBLISHED:
        return (
            f"Expected {folder}/{{train,val}}/{{{image},{names}}}/0.npy, 1.npy, ... as "
            "preprocessed for github.com/lorenmt/mtan, whose README links to them: "
            f"{PUBLISHED[layout].arrays}."
        )
    return (
        f"Expected {folder}/{{train,val,test}}/{image}/NAME.* and a map {{{names}}}/NAME.png or "
        ".npy for each image; point `root` at the folder above train."
    )
