"""Images that stay on the training device, where batches are cut from them."""

from __future__ import annotations

import os
from typing import Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from tl.data.images.augment import Augment, cut_out
from tl.data.images.resident import ResidentDataset, Targets, single
from tl.data.images.windows import Windows, line_length


class Store:
    """The images of a split on one device, whole batches cut and augmented by one gather.

    Args:
        data: The split.
        device: Where the images are to lie; those of the CPU are shared where nothing moves them.
        settings: The augmentation that the images are laid out for; ``None`` for evaluation.
    """

    def __init__(
        self, data: ResidentDataset, device: torch.device, settings: Augment | None
    ) -> None:
        self.settings = settings or Augment(padding=0, flip=False)
        _, self.height, self.width, _ = data.images.shape
        self.windows: Windows | None = None
        images, self._index = data.images, data.index
        if device.type != "cpu" or self.settings.moves:
            # the split's own images only: what is copied should be no more than that
            images = data.pixels(data.index).to(device)
            self._index = torch.arange(len(data), device=device)
        if self.settings.moves:
            self.windows = Windows(images, self.settings.padding, flip=self.settings.flip)
            images = images.new_empty(0)  # a slice would keep all of them
        self._images = images

    def cut(self, positions: Tensor, fill: Tensor, draws: Tensor | None) -> Tensor:
        """Cut a batch out.

        Args:
            positions: Of the images in the split ``(B,)``.
            fill: ``(3,)`` colour of cutout squares in pixel values.
            draws: Random numbers ``(5, B)`` of the augmentation; ``None`` for evaluation.

        Returns:
            ``(B, H, W, 3)`` uint8.
        """
        if self.windows is None:
            found = self._images.index_select(0, self._index[positions])
        elif draws is None:
            return self.windows.plain(positions)
        else:
            found = self.windows.cut(positions, draws[0], draws[1], draws[2])
        return found if draws is None else cut_out(found, self.settings, fill, draws)


class Pick:
    """A batch of images in a store, not cut yet.

    It stands in the place of the images between the loader and `on_after_batch_transfer`, where
    they are cut, augmented and normalised in one go.
    """

    def __init__(self, store: Store, positions: Tensor) -> None:
        self.store = store
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def device(self) -> torch.device:
        """Device of the images."""
        return self.positions.device

    def cut(self, fill: Tensor, draws: Tensor | None) -> Tensor:
        """Cut the batch out; see :meth:`Store.cut`."""
        return self.store.cut(self.positions, fill, draws)

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Self:
        """Return itself: the images are already on the device."""
        del device, non_blocking
        return self


class StoredDataset(Dataset[tuple[Pick, Targets]]):
    """A split whose images lie in a store: batches of positions and labels, on its device.

    Args:
        data: The split.
        store: Its images.
        device: The store's device.
    """

    def __init__(self, data: ResidentDataset, store: Store, device: torch.device) -> None:
        self.store = store
        self.size = len(data)
        self.targets = {name: labels.to(device) for name, labels in data.targets.items()}

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, positions: Tensor) -> tuple[Pick, Targets]:
        """Return a batch by position ``(B,)``."""
        targets = {name: labels[positions] for name, labels in self.targets.items()}
        return Pick(self.store, positions), single(targets)


def bytes_needed(data: ResidentDataset, settings: Augment | None) -> int:
    """Bytes of a split's store on its device, including targets on the pixels."""
    _, height, width, channels = data.images.shape
    if settings is not None and settings.moves:
        width = line_length(width, settings.padding, flip=settings.flip)
    on_pixels = [found for found in data.all_targets.values() if found.ndim > 1]
    targets = sum(found[0].nbytes for found in on_pixels)
    return len(data) * (height * width * channels + targets)


def bytes_of(device: torch.device) -> int:
    """Memory of a device in bytes; of the machine for a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
