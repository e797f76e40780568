"""Images in files below a folder: what class folders, tables and folders of maps have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from tl.data.base import ImageDataModule
from tl.data.images.resident import ImageDataset, ResidentDataset
from tl.data.naming import name_of_folder, plain_name
from tl.data.shifts.shifted import unshifted
from tl.data.split import Split

_FOR_STATISTICS = 2000  # images of a streamed split


@dataclass(kw_only=True, eq=False)
class FilesDataModule(ImageDataModule, ABC):
    """Files that are decoded once before training, then kept in memory or streamed."""

    folder: str | None = None
    max_memory_gb: float = 4.0

    @abstractmethod
    def bytes_needed(self, split: Split) -> int:
        """Return the size of a split in memory."""

    def caches(self) -> bool:
        """Return whether the training split fits into memory."""
        return not self._too_large(self.bytes_needed("train"))

    def _too_large(self, nbytes: int) -> bool:
        return nbytes > self.max_memory_gb * 1e9

    def _folder(self) -> Path:
        root = Path(self.settings.root).expanduser()
        return root / self.folder if self.folder else root

    def _folder_name(self, otherwise: str) -> str:
        """Return a name for the data from that of their folder."""
        if self.folder:
            return plain_name(self.folder) or otherwise
        return name_of_folder(Path(self.root or "data")) or otherwise

    def _fill_cache(self, stage: str | None) -> None:
        super()._fill_cache(stage)
        if stage == TrainerFn.FITTING and self.caches():
            for split in self.official_splits():
                if split != "train":
                    self.load(split)

    def setup(self, stage: str) -> None:
        """Load what a stage needs; before training, check the files of all splits.

        Raises:
            DataError: If a split is missing, or a file of any split is unreadable or wrong.
        """
        super().setup(stage)
        if stage == "fit" and "test" in self.official_splits() and "test" not in self.splits:
            # into the cache, or only read if it is too large
            self._test_keys = self.load("test").image_keys()

    def _statistics(self, whole: ImageDataset) -> tuple[Tensor, Tensor]:
        resident = isinstance(unshifted(whole), ResidentDataset)
        return whole.statistics(None if resident else _FOR_STATISTICS)
