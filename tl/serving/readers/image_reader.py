"""Files, folders, pictures and arrays as the images that a network trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tl.batch import Inputs
from tl.data.images.augment import Normalisation
from tl.data.images.decoding import pixels_of
from tl.data.trained_on import TrainedOn
from tl.serving.pictures import as_picture, decoded, files_in
from tl.serving.readers.reader import Reader


class ImageReader(Reader):
    """Reads images: files, folders of them, PIL images, arrays and tensors.

    Args:
        known: How the source was read in training.
    """

    takes = "a path, a folder, a PIL image, an array (H, W, 3) or a tensor (3, H, W), or a list"
    modality = "images"

    def __init__(self, known: TrainedOn) -> None:
        self.size = known.image_size
        self._known = known
        self._normalise = Normalisation(known.mean, known.std)

    @property
    def way(self) -> str:
        """Size, range of values and normalisation."""
        known = self._known
        deep = "" if known.pixel_range is None else f" {known.pixel_range}"
        return f"{self.size} {known.mean.tolist()} {known.std.tolist()}{deep}"

    def spread(self, given: object) -> tuple[list[Any], bool]:  # noqa: D102
        if (found := files_in(given)) is not None:
            return found, False
        if isinstance(given, np.ndarray | Tensor) and given.ndim == 4:  # noqa: PLR2004 - a batch
            return [*given], False
        if isinstance(given, list | tuple):
            return [*given], False
        return [given], True

    def read(self, sample: object) -> Any:  # noqa: ANN401
        """Read one image as ``(size, size, 3)`` uint8, resized as in training."""
        if isinstance(sample, str | Path):
            return decoded(sample, self.size, self._known.pixel_range)
        if isinstance(sample, Tensor):
            if sample.ndim != 3 or sample.shape[0] not in (1, 3):  # noqa: PLR2004 - an image
                raise ValueError(
                    f"a tensor of shape {tuple(sample.shape)} is not an image; expected (3, H, W)"
                )
            sample = sample.detach().cpu().permute(1, 2, 0).numpy()
        if isinstance(sample, np.ndarray):
            sample = as_picture(sample, self._known.pixel_range)
        if not isinstance(sample, Image.Image):
            raise ValueError(  # noqa: TRY004 - as every other input that is wrong
                f"{type(sample).__name__} is not an image; expected {self.takes}"
            )
        return pixels_of(sample, self.size, self._known.pixel_range)

    def join(self, samples: Sequence[Any]) -> Inputs:
        """Return normalised images ``(N, 3, H, W)``."""
        return self._normalise(torch.from_numpy(np.stack([np.array(x) for x in samples])))
