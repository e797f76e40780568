"""From images in memory to normalised batches on the training device."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tl.batch import VIEWS
from tl.data.images.augment import Normalisation, augment, draw
from tl.data.images.on_pixels import PixelTargets
from tl.data.images.resident import Batch, ImageDataset, ResidentDataset, mixed_seed
from tl.data.images.store import Pick, Store, StoredDataset, bytes_needed, bytes_of
from tl.data.images.views import Views, draw_views, make_views
from tl.data.images.zoom import zoom_of
from tl.data.settings import Settings
from tl.tasks import Task

#: Steps whose random numbers are drawn together.
DRAWN_AT_ONCE = 256


class Pipeline:
    """What happens to a source's images between memory and network.

    Args:
        name: Name of the source; part of its random seeds.
        settings: Its settings.
        statistics: Mean and standard deviation per channel, two ``(3,)`` in pixel values.
        tasks: What is learned from it; targets that lie on the pixels move with these.
        fill: Colour of cutout squares ``(C,)``; the mean by default.
        views: Makes two views of each image in place of the augmentation; ``None`` gives one.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        statistics: tuple[Tensor, Tensor],
        tasks: Iterable[Task] = (),
        fill: Tensor | None = None,
        views: Views | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self.views = views
        self._fill = statistics[0] if fill is None else fill
        self.normalise = Normalisation(*statistics)
        self.on_pixels = PixelTargets(tasks)
        self._stores: dict[str, tuple[torch.device, Store]] = {}
        self._drawn: tuple[tuple[int, ...], torch.device, Tensor] | None = None

    def stored(
        self, split: str, data: ImageDataset, device: torch.device | None
    ) -> StoredDataset | None:
        """Lay a split's images out on the training device, once.

        Returns:
            ``None`` where they are not in memory, do not fit, or workers are to cut them.
        """
        share = self.settings.resident_share
        if self.settings.num_workers or not isinstance(data, ResidentDataset):
            return None
        if device is None or device.type not in ("cpu", "cuda") or not share:
            return None
        moved = split == "train" and self.views is None
        settings = self.settings.augment if moved else None
        needed, there = bytes_needed(data, settings), bytes_of(device)
        if needed > share * there:
            rank_zero_info(
                f"tl: {self.name}: {split} images are cut on the CPU, step by step; on {device} "
                f"they would take {needed / 1e9:.1f} GB, more than {share:.0%} of its "
                f"{there / 1e9:.1f} GB (`resident_share`)."
            )
            return None
        if split not in self._stores or self._stores[split][0] != device:
            self._stores[split] = (device, Store(data, device, settings))
        return StoredDataset(data, self._stores[split][1], device)

    def forget(self, split: str) -> None:
        """Drop a split's images from the device: others take their place."""
        self._stores.pop(split, None)

    def draws(self, batch: Batch | tuple[Pick, object], epoch: int, step: int, rank: int) -> Tensor:
        """Random numbers of a training batch: a function of (seed, epoch, step, rank, source).

        They are drawn for many steps at once, which costs less, and on a GPU leaves nothing to be
        moved in a step.

        Returns:
            ``(5 or 8, N)`` int64 on the images' device; see `tl.data.images.augment.draw`. For
            two views floats, see `tl.data.images.views.draw_views`.
        """
        images = batch[0]
        block, at = divmod(step, DRAWN_AT_ONCE)
        count = len(images)
        (height, width), device = _size_of(images), images.device
        key = (epoch, block, rank, count, height, width)
        if self._drawn is None or self._drawn[:2] != (key, device):
            generator = torch.Generator()
            generator.manual_seed(mixed_seed("augment", self.settings.seed, *key, self.name))
            many = count * DRAWN_AT_ONCE
            if self.views is None:
                drawn = draw(many, self.settings.augment, height, width, generator)
            else:
                drawn = draw_views(many, self.views, height, width, generator)
            self._drawn = (key, device, drawn.to(device))
        return self._drawn[2].narrow(1, at * count, count)

    def evaluation_draws(self, batch: Batch | tuple[Pick, object]) -> Tensor | None:
        """Random numbers of views in evaluation: always the same for each position in a batch.

        Returns:
            As :meth:`draws`; ``None`` if there is one view, which evaluations do not augment.
        """
        if self.views is None:
            return None
        images = batch[0]
        height, width = _size_of(images)
        generator = torch.Generator()
        generator.manual_seed(mixed_seed("views", self.settings.seed, self.name))
        drawn = draw_views(len(images), self.views, height, width, generator)
        return drawn.to(images.device)

    def two_views(self, batch: Batch | tuple[Pick, object], draws: Tensor) -> tuple[Any, Any]:
        """Make two normalised views of the images of a batch.

        Args:
            batch: As for :meth:`transform`.
            draws: Random numbers of :meth:`draws`.

        Returns:
            Views by the names of `tl.batch.VIEWS`, each ``(N, 3, H, W)`` float32 in channels-last
            memory, and the labels.
        """
        images, targets = batch
        if self.views is None:
            raise ValueError("The pipeline makes one view of each image.")
        if isinstance(images, Pick):
            images = images.cut(self._fill, None).permute(0, 3, 1, 2)
        both = make_views(images.float() / 255, self.views, draws)
        inputs = self.normalise((both * 255).permute(0, 2, 3, 1).contiguous())
        return dict(zip(VIEWS, inputs.chunk(2), strict=True)), targets

    def transform(self, batch: Batch | tuple[Pick, object], draws: Tensor | None) -> Batch:
        """Normalise a batch; augment it first if random numbers are given.

        Args:
            batch: Images ``(N, 3, H, W)`` uint8, or a `Pick` of them, and their labels.
            draws: Random numbers ``(5 or 8, N)``; ``None`` for evaluation.

        Returns:
            Images ``(N, 3, H, W)`` float32 in channels-last memory, and the labels; those that lie
            on the pixels are moved as these are. With two views, see :meth:`two_views`.
        """
        if self.views is not None and draws is not None:
            return self.two_views(batch, draws)
        images, targets = batch
        if self._fill.device != images.device:  # once, as a move in each step waits for a GPU
            self._fill = self._fill.to(images.device)
        if isinstance(images, Pick):
            pixels = images.cut(self._fill, draws)
        else:
            pixels = images.permute(0, 2, 3, 1).contiguous()
            if draws is not None:
                pixels = augment(pixels, self.settings.augment, self._fill, draws)
        if self.on_pixels:
            height, width = pixels.shape[1:3]
            targets = self.on_pixels(
                targets,  # type: ignore[arg-type]  # as below
                height,
                width,
                self.settings.augment,
                draws,
            )
        inputs = self.normalise(pixels)
        # after normalisation: bytes cannot hold what lies between them
        if zoom := zoom_of(self.settings.augment, draws, *pixels.shape[1:3]):
            inputs = zoom.images(inputs)
        return inputs, targets  # type: ignore[return-value]


def _size_of(images: Tensor | Pick) -> tuple[int, int]:
    """Return height and width."""
    if isinstance(images, Pick):
        return images.store.height, images.store.width
    return images.shape[2], images.shape[3]
