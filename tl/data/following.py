"""Sources of images that are evaluated by the head of another."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tl.data.images.resident import ImageDataset
from tl.data.label_tasks import LabelTasks
from tl.data.shifts.shifted import unshifted


class FollowingSource(LabelTasks, ABC):
    """The part of a source of images that follows a labelled one, whose head it uses."""

    _labelled: FollowingSource | None
    _test_keys: list[bytes] | None  # of test images that were only checked

    def follow(self, labelled: FollowingSource | None) -> None:
        """Take normalisation and validation images of a source whose head this one only uses.

        The head was trained on inputs of that scale. Of the same images, under whatever shift,
        those validate that the labelled source does not train on.

        Args:
            labelled: The source, which is loaded first; ``None`` for a source with its own head.
        """
        if labelled is not self._labelled:
            self._labelled = labelled
            if self.trained_on is None:
                self._reload()

    def held_out_of(self, images: ImageDataset) -> Tensor | None:
        """Return which of some images validate here; ``None`` if they are others, or none do.

        Args:
            images: Images that were not divided; their shift and their targets do not count.
        """
        if self._divided is None:
            return None
        rows, own = self._divided
        if not len(rows) or int(rows.max()) >= len(images):
            return None
        both = (own, images.subset(rows))
        mine, theirs = (unshifted(part.only(())).digest() for part in both)
        return rows if mine == theirs else None

    def keys_by_split(self, *, of_pixels: bool) -> Mapping[str, list[bytes]]:
        """Return what tells the images of each split from others, as far as splits were read.

        Args:
            of_pixels: Whether images that are no files, as of CIFAR, are hashed, which takes half a
                second for 100,000; they are in no set of another name.
        """
        found: dict[str, list[bytes]] = {
            split: data.image_keys()
            for split in ("train", "val", "test")
            if split in self.splits
            and ((data := unshifted(self.splits[split])).all_keys or of_pixels)
        }
        return {"test": self._test_keys, **found} if self._test_keys else found

    def _labelled_statistics(self) -> tuple[Tensor, Tensor] | None:
        found = None if self._labelled is None else self._labelled.statistics
        if self._labelled is not None and found is not None:
            rank_zero_info(
                f"tl: {self.data_name} is normalised like {self._labelled.data_name}, whose head "
                "it uses."
            )
        return found
