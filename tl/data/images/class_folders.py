"""Folders of images by class: found, checked, listed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from tl.data.errors import DataError, listed
from tl.data.images.listing import list_files
from tl.data.naming import composed


@dataclass(frozen=True)
class ImageFiles:
    """The image files of one split: ``paths[i]`` shows class ``classes[labels[i]]``.

    Of a table, `targets` are its columns, and labels are for splitting.
    """

    folder: Path
    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: Tensor
    others: tuple[Path, ...] = ()  # left out: not images
    loose: tuple[Path, ...] = ()  # left out: outside the class folders
    targets: Mapping[str, Tensor] = field(default_factory=dict)

    def take(self, rows: Tensor) -> ImageFiles:
        """Return some of the files, by position ``(M,)``."""
        paths = tuple(self.paths[row] for row in rows.tolist())
        targets = {name: values[rows] for name, values in self.targets.items()}
        return replace(self, paths=paths, labels=self.labels[rows], targets=targets)

    def absent(self) -> list[str]:
        """Return the classes without images here."""
        there = {*self.labels.tolist()}
        return [name for label, name in enumerate(self.classes) if label not in there]

    def names(self) -> list[str]:
        """Paths relative to the split's folder."""
        above = str(self.folder / "x")[:-1]
        return [str(path).removeprefix(above) for path in self.paths]


def find_classes(folder: Path) -> tuple[str, ...]:
    """Names of the class folders in ``folder``, sorted; see `class_folders`."""
    return tuple(class_folders(folder))


def class_folders(folder: Path) -> dict[str, Path]:
    """Find the class folders in ``folder`` by name, sorted.

    Names are composed, see `tl.data.naming`; a path is as on disk.

    Raises:
        DataError: If the folder is missing, unreadable, holds no class folder or broken links, or
            two folders whose names differ in their Unicode form alone.
    """
    try:
        below = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
        names = sorted((composed(entry.name), entry.name) for entry in below if entry.is_dir())
    except FileNotFoundError:
        raise DataError(
            f"No such folder: {folder}. Expected {folder}/<class>/* with one folder of images per "
            "class; point `root` at the folder above it."
        ) from None
    except OSError as error:
        raise DataError(f"Cannot read {folder}: {error.strerror}.") from None
    if lost := sorted(e.name for e in below if e.is_symlink() and not Path(e.path).exists()):
        raise DataError(f"{folder} has links to nothing: {listed(lost)}. Repair or remove them.")
    if not names:
        raise DataError(
            f"{folder} holds no class folders. Expected {folder}/<class>/* with one folder of "
            "images per class."
        )
    found = {name: folder / there for name, there in names}
    if len(found) < len(names):
        twice = next(name for (name, _), (other, _) in pairwise(names) if name == other)
        raise DataError(
            f"{folder} has two folders of the class {twice}, whose names differ in their Unicode "
            "form; put their images into one."
        )
    return found


def find_images(
    folder: Path, classes: Sequence[str] | None = None, *, partial: bool = False
) -> ImageFiles:
    """List ``folder/<class>/*`` in sorted order.

    Args:
        folder: One split.
        classes: The classes expected, in the order of their labels; found by default.
        partial: Accept classes without images.

    Raises:
        DataError: If a class folder is empty, unknown, or there is none.
    """
    found = class_folders(folder)
    if classes is None:
        classes = tuple(found)
    elif unknown := sorted(set(found) - set(classes)):
        raise DataError(
            f"{folder} has class folders that the training split lacks: {listed(unknown)}."
        )
    paths: list[Path] = []
    labels: list[int] = []
    others: list[Path] = []
    empty: list[str] = []
    for label, name in enumerate(classes):
        files, rest = list_files(found[name]) if name in found else ([], [])
        if not files:
            empty.append(name)
        paths += files
        others += rest
        labels += [label] * len(files)
    if empty and not (partial and paths):
        raise DataError(
            f"{len(empty)} of {len(classes)} classes have no images in {folder}: {listed(empty)}. "
            "Expected image files, such as .png, .jpg or .tif; or remove the class."
        )
    loose = [p for p in sorted(folder.iterdir()) if p.is_file() and p.name[0] != "."]
    return ImageFiles(
        folder,
        tuple(classes),
        tuple(paths),
        torch.tensor(labels, dtype=torch.int64),
        tuple(others),
        tuple(loose),
    )
