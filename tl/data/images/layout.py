"""Which folders hold the splits of an image folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tl.data.errors import DataError, listed

VALIDATION = ("val", "valid", "validation")
# names that a split may have elsewhere, and a class hardly
_SPLITS = {"train", "training", "test", "testing", *VALIDATION, "dev", "eval", "evaluation"}


@dataclass(frozen=True)
class Layout:
    """Folders of classes: ``train``, ``test`` and ``val`` where they exist."""

    train: Path  # where `whole`, of all images
    val: Path | None = None
    test: Path | None = None
    whole: bool = False  # the class folders lie in one folder, whose images are to be split

    def folder(self, split: Literal["train", "val", "test"]) -> Path:
        """Return the class folders' parent of a split that exists."""
        found = {"train": self.train, "val": self.val, "test": self.test}[split]
        return self.train if found is None else found


def find_layout(folder: Path) -> Layout:
    """Find the splits below a folder.

    - ``train/`` with, if they exist, ``test/`` and ``val/`` (or ``valid/``, ``validation/``);
    - without ``train/`` and ``test/``: class folders.

    Raises:
        DataError: If there are several validation folders, or the folders look like splits of
            other names or like several data sets.
    """
    try:
        below = sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
    except OSError:
        below = []
    vals = [name for name in VALIDATION if name in below]
    if not {"train", "test"} & set(below) and below:
        if splits := [name for name in below if name.lower() in _SPLITS]:
            raise DataError(
                f"{folder} has no folder `train`, but {listed(splits)}. Name the splits train, "
                "test and val, or put the class folders alone into it."
            )
        if sets := [name for name in below if (folder / name / "train").is_dir()]:
            raise DataError(
                f"{folder} holds whole data sets, not classes: {listed(sets)}. Choose one with "
                "`folder`."
            )
        return Layout(folder, whole=True)
    if len(vals) > 1:
        raise DataError(
            f"{folder} has {len(vals)} validation folders: {listed(vals)}. Keep one of them."
        )
    return Layout(
        folder / "train",
        folder / vals[0] if vals else None,
        folder / "test" if "test" in below else None,
    )
