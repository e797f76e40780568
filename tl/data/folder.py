"""Your own image folders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tl.counting import counted
from tl.data.errors import DataError, listed
from tl.data.folder_as_trained import FolderAsTrained
from tl.data.images.class_folders import ImageFiles, find_classes, find_images
from tl.data.images.groups import read_groups
from tl.data.images.image_set import (
    Reading,
    StreamedDataset,
    check_images,
    load_images,
    reasons,
)
from tl.data.images.layout import Layout, find_layout
from tl.data.images.listing import log_left_out
from tl.data.images.resident import ImageDataset, ResidentDataset
from tl.data.split import Split, stratified_split
from tl.data.synthetic.generated import TargetChoice
from tl.data.trained_on import same_names

#: Seed of the test split of a folder without splits, which is independent of `seed`.
TEST_SEED = 0x7E57


@dataclass(kw_only=True, eq=False)
class FolderDataModule(FolderAsTrained):
    """Images in folders ``root/{train,val,test}/<class>/*``, of any size and raster format.

    A folder ``val`` (or ``valid``, ``validation``) is the validation split and replaces `val_size`.
    Class folders directly in ``root`` are split into training and test images.

    Every raster format that Pillow reads without plugins is accepted and recognised by content.
    Each image is converted to 8-bit RGB (`tl.data.images.decoding.decode`), resized to cover the
    configured square and centre-cropped. Images are decoded once, kept in memory and cached on disk
    by content (``$TL_CACHE``); larger sets are decoded by the loader's workers on the fly. Before
    training, every image of every split is decoded once.

    Args:
        folder: Folder below ``root`` that holds the splits, and the name of the task; by default
            ``root`` holds them and its name is used.
        size: Height and width of the images in pixels.
        groups: CSV file with the group of each class: columns ``class,group`` (or ``fine_name,
            coarse_name``), one row per class. Provides the ``coarse`` labels.
        targets: Labels: ``fine`` (the class folders), ``coarse`` (their groups) or ``both``.
        max_memory_gb: Decoded size in gigabytes above which a split is streamed from files.
        on_bad_image: What to do with unreadable image files: ``error`` lists them before training,
            ``skip`` lists them, leaves them out and counts them.
        pixel_range: Values mapped to black and white in images with more than 8 bits per channel,
            such as ``[0, 4095]``; by default the rules of `tl.data.images.decoding.decode` apply,
            or the image is refused.
        test_size: Fraction of each class used for testing if ``root`` holds class folders without
            splits. These images depend on neither `seed` nor `label_fraction`. 0 disables the test
            split.

    Raises:
        ValueError: If coarse labels are requested without `groups`, or a number is out of range.
    """

    size: int = 32
    groups: str | None = None
    targets: TargetChoice = "fine"
    on_bad_image: Literal["error", "skip"] = "error"
    pixel_range: tuple[float, float] | None = None
    test_size: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 1:
            raise ValueError(f"`size` must be positive, got {self.size}.")
        self._check_groups()
        if self.pixel_range is not None:
            low, high = float(self.pixel_range[0]), float(self.pixel_range[1])
            object.__setattr__(self, "pixel_range", (low, high))  # the option, converted to floats
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"`pixel_range` must be [low, high], got {self.pixel_range}.")
        if not 0 <= self.test_size < 1:
            raise ValueError(f"`test_size` must be 0 or more and below 1, got {self.test_size}.")
        self.image_size = self.size
        self._skipped: dict[str, int] = {}
        self._left_out: set[Path] = set()  # folders whose other files were named

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - whatever it is
        """Set an attribute; see `ImageDataModule`."""
        super().__setattr__(name, value)
        if name == "size":
            self.image_size = value

    def _check_groups(self) -> None:
        if self.targets != "fine" and self.groups is None:
            raise ValueError(
                f"`targets={self.targets!r}` needs `groups`, a CSV file with the columns "
                "class,group."
            )

    def _default_name(self) -> str:
        return self._folder_name("images")

    def _layout(self) -> Layout:
        return find_layout(self._folder())

    def target_classes(self) -> dict[str, tuple[str, ...]]:
        """Class names by target, from the folders of the training split.

        Raises:
            DataError: If the folder does not exist, or the groups do not cover the classes.
        """
        if self.trained_on is not None:
            return self.trained_on.classes
        fine = self._fine()
        both = {"fine": fine}
        if self.groups is not None:
            both["coarse"] = tuple(sorted(set(self._read_groups(fine).values())))
        return {target: both[target] for target in self._targets_asked_for()}

    def _targets_asked_for(self) -> tuple[str, ...]:
        return ("fine", "coarse") if self.targets == "both" else (self.targets,)

    def _fine(self) -> tuple[str, ...]:
        """Class folders in the order of their labels."""
        known = self.trained_on.fine if self.trained_on is not None else None
        return known or find_classes(self._layout().train)

    def _read_groups(self, classes: tuple[str, ...]) -> Mapping[str, str]:
        return read_groups(Path(str(self.groups)).expanduser(), classes)

    def class_groups(self) -> dict[str, str] | None:
        """Return the group of each class by name, or ``None`` without `groups`."""
        if self.trained_on is not None:
            return self.trained_on.groups
        return None if self.groups is None else dict(self._read_groups(self._fine()))

    def strata(self) -> tuple[str, tuple[str, ...]]:
        """Class folders, whichever labels are requested."""
        return "fine", self._fine()

    def bytes_needed(self, split: Split) -> int:
        """Return the size of a split's decoded images."""
        return self._bytes_of(self._files(split))

    def _bytes_of(self, files: ImageFiles) -> int:
        return len(files.paths) * self.size**2 * 3

    def official_splits(self) -> tuple[Split, ...]:
        """Splits of the folder, or those that its class folders are split into."""
        layout = self._layout()
        if layout.whole:
            return ("train", "test") if self._test_share() else ("train",)
        found: dict[Split, Path | None] = {"val": layout.val, "test": layout.test}
        return ("train", *(split for split, folder in found.items() if folder is not None))

    def setup(self, stage: str) -> None:
        """Load what a stage needs; see `FilesDataModule`."""
        super().setup(stage)
        if stage == "fit":
            self._log_splits()

    def _log_splits(self) -> None:
        layout, splits = self._layout(), self.official_splits()
        train, val = len(self.splits["train"]), len(self.splits["val"])
        where = f"of {layout.val.name}/" if layout.val else "of the training split"
        line = (
            f"tl: {self.data_name}: {counted(train + val, 'image')} to train and validate: "
            f"{train:,} train, "
            f"{val:,} {where} validate"
        )
        if layout.val:
            line += " (`val_size` is not used)"
        rank_zero_info(f"{line}.")
        if layout.whole and self.test_size:
            rank_zero_info(
                f"tl: {self.data_name}: {layout.train} has no train/ and test/; "
                f"{self.test_size:g} of each class is held out for `test` (`test_size`), the same "
                "images for every seed."
            )
        if "test" not in splits:
            rank_zero_info(
                f"tl: {self.data_name}: no test split, so `test` is not possible: {self._no_test()}"
            )

    def _no_test(self) -> str:
        layout = self._layout()
        if layout.whole:
            return "`test_size` is 0."
        if not (root := self._folder()).is_dir():
            here = "" if root.is_absolute() else f", seen from {Path.cwd()}"
            return f"there is no folder {root}{here}. Set `root` to where the data lie."
        return f"there is no folder {layout.train.parent / 'test'}."

    def load(self, split: Split) -> ImageDataset:
        """Read one split into memory, or prepare streaming.

        Raises:
            DataError: If the split does not exist, or images are unreadable.
        """
        if split not in self.official_splits():
            raise DataError(f"{self.data_name} has no {split} split: {self._no_test()}")
        files = self._files(split)
        if files.folder not in self._left_out:  # one folder may hold several splits
            self._left_out.add(files.folder)
            log_left_out(files.others, files.folder)
            log_left_out(files.loose, files.folder, "outside the class folders")
            self._log_absent(files, split)
        what = f"{self.data_name} {split} images"
        skipped: dict[int, str] | None = {} if self.on_bad_image == "skip" else None
        data: ImageDataset
        if self._too_large(self._bytes_of(files)):
            contents = check_images(files.paths, self._reading, what, skipped)
            labels, names = self._labels(files), files.names()
            data = StreamedDataset(files.paths, labels, self._reading, names, contents)
        else:
            keys: list[bytes] = []
            images = load_images(files.paths, self._reading, what, skipped, keys)
            data = ResidentDataset(images, self._labels(files), files.names(), keys)
        return self._without(skipped, data, files, split) if skipped else data

    @property
    def _reading(self) -> Reading:
        reading = super()._reading  # has the range of a checkpoint that names one
        return replace(reading, pixel_range=reading.pixel_range or self.pixel_range)

    def _without(
        self, skipped: Mapping[int, str], data: ImageDataset, files: ImageFiles, split: Split
    ) -> ImageDataset:
        """Leave out unreadable files."""
        self._log_skipped(skipped, files.paths, split)
        kept = torch.tensor([row for row in range(len(files.paths)) if row not in skipped])
        if gone := sorted(set(files.labels.tolist()) - set(files.labels[kept.long()].tolist())):
            names = listed([files.classes[label] for label in gone])
            raise DataError(
                f"{len(gone)} of {len(files.classes)} classes have no readable image in "
                f"{files.folder}: {names}. Replace the images, or remove the class."
            )
        return data.subset(kept)

    def _log_skipped(self, skipped: Mapping[int, str], paths: Sequence[Path], split: str) -> None:
        self._skipped[split] = len(skipped)
        if skipped:
            rank_zero_info(
                f"tl: {self.data_name}: skipped {len(skipped)} of {len(paths)} {split} images as "
                f"unreadable: {reasons(skipped, paths)}."
            )

    def _log_absent(self, files: ImageFiles, split: str) -> None:
        """Name the classes that a split cannot evaluate; every column of a table has its own."""
        if not files.targets and (absent := files.absent()):
            rank_zero_info(
                f"tl: {self.data_name}: {len(absent)} of {len(files.classes)} classes have no "
                f"{split} images in {files.folder}: {listed(absent)}; scores are of the others."
            )

    def describe(self) -> dict[str, Any]:
        """Return a description of the loaded data, with layout and number of skipped images."""
        layout, pixel_range = self._layout(), self._reading.pixel_range
        return super().describe() | {
            "val_folder": layout.val.name if layout.val else None,
            "test_size": self.test_size if layout.whole else None,
            "pixel_range": list(pixel_range) if pixel_range else None,
            "skipped_images": dict(self._skipped),
        }

    def _files(self, split: Split) -> ImageFiles:
        layout = self._layout()
        classes, folder = self._fine(), layout.folder(split)
        if self.trained_on is not None and not set(there := find_classes(folder)) <= set(classes):
            same_names(classes, there, "classes", str(folder))
        partial = split != "train" and (not layout.whole or self.trained_on is not None)
        files = find_images(folder, classes, partial=partial)
        if not layout.whole:
            return files
        train, test = stratified_split(
            files.labels,
            val_size=self._test_share(),
            label_fraction=1.0,
            seed=TEST_SEED,
            classes=classes,
            held_out="test_size",
            partial=partial,
        )
        return files.take(train if split == "train" else test)

    def _labels(self, files: ImageFiles) -> dict[str, Tensor]:
        labels = {"fine": files.labels}
        if self.class_groups() is not None:
            group_of = self.class_groups() or {}
            known = self.trained_on.classes.get("coarse") if self.trained_on else None
            order = known or sorted(set(group_of.values()))
            groups = torch.tensor([order.index(group_of[name]) for name in files.classes])
            labels["coarse"] = groups[files.labels]
        return labels
