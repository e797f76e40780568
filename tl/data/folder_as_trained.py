"""Evaluation of class folders as a checkpoint was trained: pixels, groups and test images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from tl.counting import counted
from tl.data.errors import DataError, listed
from tl.data.files import FilesDataModule
from tl.data.images.decoding import PixelRange, Size
from tl.data.images.layout import Layout
from tl.data.trained_on import TrainedOn, regrouped


class FolderAsTrained(FilesDataModule, ABC):
    """The part of a source of class folders that follows a checkpoint."""

    size: int
    groups: str | None
    test_size: float
    pixel_range: PixelRange | None

    @abstractmethod
    def _layout(self) -> Layout:
        """Return which folders hold the splits."""

    @abstractmethod
    def _read_groups(self, classes: tuple[str, ...]) -> Mapping[str, str]:
        """Return the group of each class by name."""

    def _test_share(self) -> float:
        """The test fraction of a folder without splits: the checkpoint's, if it has one."""
        share = self.trained_on.test_size if self.trained_on is not None else None
        return self.test_size if share is None else share

    def _setup_evaluation(self, known: TrainedOn, stage: str) -> None:
        super()._setup_evaluation(known, stage)
        tests = stage == "test" or (stage == "predict" and not self.settings.predict_folder)
        if not (tests and known.test_size and self._layout().whole):
            return
        if self._test_share() != self.test_size:
            rank_zero_info(
                f"tl: {self.data_name}: using the checkpoint's test images: `test_size` "
                f"{known.test_size} there, {self.test_size} here."
            )
        # adding, removing or renaming images changes the selection
        root, there = self._folder(), Path(str(self._adopted.get("root"))).expanduser()
        same = root.resolve() == (there / self.folder if self.folder else there).resolve()
        if same and self._hash(self._trained_part(known)) != known.unshifted:
            raise DataError(
                f"{root} has other images than in training, so the images held out for `test` "
                "cannot be determined. Restore them, or put the test images into a separate "
                "folder: `test/` beside `train/`."
            )

    def _take_size(self, size: Size) -> None:
        if not isinstance(size, int):
            super()._take_size(size)
            return
        if size != self.size:
            rank_zero_info(
                f"tl: {self.data_name}: reading images at {size}x{size} pixels as in training, "
                f"not at {self.size}x{self.size}."
            )
        object.__setattr__(self, "size", size)  # not a changed option
        self.image_size = size

    def _tell_range(self, there: PixelRange | None) -> None:
        """Tell which values become black and white if they are other than the options say."""
        here = self.pixel_range
        if there == here:
            return
        used = [*(there or here or ())]
        instead = f", not {[*here]}" if here else ""
        why = f"as in training{instead}" if there else "as set here; the checkpoint records none"
        rank_zero_info(f"tl: {self.data_name}: reading images with `pixel_range` {used} {why}.")

    def adopt(self, record: Mapping[str, Any], sources: int | None = None) -> bool:
        """Evaluate as a checkpoint was trained; its source's name becomes the task's name.

        Returns:
            Whether this changes anything: `setup` has to load again.

        Raises:
            DataError: As in `ImageDataModule.adopt`, and if `groups` differs from training.
        """
        changed = super().adopt(record, sources)
        known = self.trained_on
        if known is None:
            return changed
        if changed:
            self._tell_range(known.pixel_range)
        if sources is None:
            self.data_name = known.name
        if known.groups and self.groups is not None and Path(self.groups).expanduser().exists():
            here = self._read_groups(tuple(known.groups))
            if moved := regrouped(known.groups, here):
                self._forget()
                raise DataError(
                    f"{self.groups} groups {counted(len(moved), 'class', 'classes')} differently "
                    "from the checkpoint's "
                    f"training: {listed(moved)}. Use the groups of training."
                )
        return changed
