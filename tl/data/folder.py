"""Image folders of one's own."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tl.data.base import ImageDataModule, Split
from tl.data.cache import default_cache
from tl.data.errors import DataError, listed
from tl.data.generated import TargetChoice
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
        name = self.folder or Path(self.root or "data").expanduser().resolve().name
        # task names have letters, digits, `_` and `-`, and begin with one of the first two
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        return re.sub(r"[^A-Za-z0-9_-]", "_", plain).lstrip("_-") or "images"

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
                reader = csv.DictReader(file, skipinitialspace=True)
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
                rows = [(row[pair[0]], row[pair[1]]) for row in reader]
        except OSError as error:
            raise DataError(f"Cannot read `groups` {path}: {error.strerror}.") from None
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"`groups` {path} is not a CSV file in UTF-8: {error}.") from None
        group_of = dict(rows)
        if torn := sorted({str(name) for name, group in rows if group != group_of[name]}):
            raise DataError(f"{path} puts classes into two groups: {listed(torn)}.")
        if missing := [name for name in classes if not group_of.get(name)]:
            raise DataError(f"{path} gives no group for {len(missing)} classes: {listed(missing)}.")
        return {name: group_of[name] for name in classes}

    def class_groups(self) -> dict[str, str] | None:
        """Return the group of each class by name, or ``None`` without `groups`."""
        if self.groups is None:
            return None
        return dict(self._read_groups(find_classes(self._folder() / "train")))

    def strata(self) -> tuple[str, tuple[str, ...]]:
        """Class folders, whichever labels are asked for."""
        return "fine", find_classes(self._folder() / "train")

    def caches(self) -> bool:
        """Say whether the training split fits into memory."""
        return not self._too_large(self._files("train"))

    def load(self, split: Split) -> ImageDataset:
        """Read one split into memory, or prepare to stream it."""
        files = self._files(split)
        targets = self._labels(files)
        what = f"{self.data_name} {split} images"
        if self._too_large(files):
            check_images(files.paths, self.size, what)
            return StreamedDataset(files.paths, targets, self.size, files.names())
        images = load_images(files.paths, self.size, default_cache(), what)
        return ResidentDataset(images, targets, files.names())

    def _files(self, split: Split) -> ImageFiles:
        return find_images(self._folder() / split, find_classes(self._folder() / "train"))

    def _too_large(self, files: ImageFiles) -> bool:
        return len(files.paths) * self.size**2 * 3 > self.max_memory_gb * 1e9

    def _labels(self, files: ImageFiles) -> dict[str, Tensor]:
        labels = {"fine": files.labels}
        if self.groups is not None:
            group_of = self._read_groups(files.classes)
            order = sorted(set(group_of.values()))
            groups = torch.tensor([order.index(group_of[name]) for name in files.classes])
            labels["coarse"] = groups[files.labels]
        return labels

    def _statistics(self, whole: ImageDataset) -> tuple[Tensor, Tensor]:
        return whole.statistics(2000 if isinstance(whole, StreamedDataset) else None)
