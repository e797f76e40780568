"""Image folders of one's own."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tl.data.base import ImageDataModule, Split
from tl.data.cache import default_cache
from tl.data.errors import DataError, listed
from tl.data.generated import TargetChoice, chosen_targets
from tl.data.images import (
    ImageFiles,
    StreamedDataset,
    check_images,
    find_classes,
    find_images,
    load_images,
)
from tl.data.resident import ImageDataset, ResidentDataset


@dataclass(kw_only=True, eq=False)
class FolderDataModule(ImageDataModule):
    """Images in folders ``root/{train,test}/<class>/*``, of any size and common format.

    Each image is resized to cover the configured square and cropped to its centre. They are
    decoded once, kept in memory and cached on disk by content (``$TL_CACHE``); sets too large for
    that are decoded by the loader's workers as they are needed.

    Args:
        folder: Folder below ``root`` that holds ``train`` and ``test``, and the name of the task;
            by default ``root`` holds them and its own name is used.
        size: Height and width of the images in pixels.
        groups: CSV file that groups the classes: columns ``class,group`` (or ``fine_name,
            coarse_name``), one row per class. Gives the ``coarse`` labels.
        targets: Labels: ``fine`` (the class folders), ``coarse`` (their groups) or ``both``.
        max_memory_gb: Decoded size in gigabytes above which a split is streamed from its files.

    Raises:
        ValueError: If coarse labels are asked for without `groups`, or `size` is not positive.
    """

    folder: str | None = None
    size: int = 32
    groups: str | None = None
    targets: TargetChoice = "fine"
    max_memory_gb: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 1:
            raise ValueError(f"`size` must be positive, got {self.size}.")
        if self.targets != "fine" and self.groups is None:
            raise ValueError(
                f"`targets={self.targets!r}` needs `groups`, a CSV file with the columns "
                "class,group."
            )
        self.image_size = self.size

    def _default_name(self) -> str:
        name = self.folder or Path(self.root or "data").resolve().name
        # task names have letters, digits, `_` and `-`
        return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in name)

    def _folder(self) -> Path:
        root = Path(self.settings.root).expanduser()
        return root / self.folder if self.folder else root

    def target_classes(self) -> dict[str, tuple[str, ...]]:
        """Class names by target, from the folders of the training split.

        Raises:
            DataError: If there is no such folder, or the groups do not cover the classes.
        """
        fine = find_classes(self._folder() / "train")
        both = {"fine": fine}
        if self.groups is not None:
            both["coarse"] = tuple(sorted(set(self._read_groups(fine).values())))
        return both if self.targets == "both" else {self.targets: both[self.targets]}

    def _read_groups(self, classes: tuple[str, ...]) -> Mapping[str, str]:
        path = Path(str(self.groups)).expanduser()
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                columns = reader.fieldnames or []
                pair = next(
                    (
                        p
                        for p in (("class", "group"), ("fine_name", "coarse_name"))
                        if set(p) <= set(columns)
                    ),
                    None,
                )
                if pair is None:
                    raise DataError(
                        f"{path} must have the columns class,group, got "
                        f"{','.join(columns) or 'none'}."
                    )
                group_of = {row[pair[0]]: row[pair[1]] for row in reader}
        except OSError as error:
            raise DataError(f"Cannot read `groups` {path}: {error.strerror}.") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"`groups` {path} is not a CSV file in UTF-8: {error}.") from None
        if missing := [name for name in classes if not group_of.get(name)]:
            raise DataError(f"{path} gives no group for {len(missing)} classes: {listed(missing)}.")
        return {name: group_of[name] for name in classes}

    def load(self, split: Split) -> ImageDataset:
        """Read one split into memory, or prepare to stream it."""
        classes = find_classes(self._folder() / "train")
        files = find_images(self._folder() / split, classes)
        targets = self._labels(files)
        what = f"{self.data_name} {split} images"
        if len(files.paths) * self.size**2 * 3 > self.max_memory_gb * 1e9:
            check_images(files.paths, self.size, what)
            return StreamedDataset(files.paths, targets, self.size, files.names())
        images = load_images(files.paths, self.size, default_cache(), what)
        return ResidentDataset(images, targets, files.names())

    def _labels(self, files: ImageFiles) -> dict[str, Tensor]:
        groups = torch.zeros(len(files.classes), dtype=torch.int64)
        if self.groups is not None:
            group_of = self._read_groups(files.classes)
            order = sorted(set(group_of.values()))
            groups = torch.tensor([order.index(group_of[name]) for name in files.classes])
        return chosen_targets(files.labels, groups, self.targets)

    def _statistics(self, whole: ImageDataset) -> tuple[Tensor, Tensor]:
        return whole.statistics(2000 if isinstance(whole, StreamedDataset) else None)
