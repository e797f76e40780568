"""Arrays and tensors in the shapes that a network trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tl.batch import Inputs
from tl.data.images.decoding import pixels_of
from tl.data.tensor_statistics import statistics_of
from tl.serving.pictures import decoded, files_in
from tl.serving.readers.reader import Reader

_MOST = 255  # of a byte


class TensorReader(Reader):
    """Reads arrays and tensors in the shapes of training.

    A network that was trained on images of three channels of bytes takes files and PIL images too,
    resized and cropped to the size of training.

    Args:
        record: What a :class:`tl.data.TensorDataModule` described; empty where nothing is known.
    """

    takes = "an array or tensor, of one sample or of several in its first dimension, or a dict"
    modality = "tensors"

    def __init__(self, record: Mapping[str, Any]) -> None:
        shapes = (record.get("shapes") or {}).get("train") or {}
        self._shapes = {str(name): tuple(shape) for name, shape in shapes.items()}
        self._statistics = statistics_of(record)
        self._levels = {name: (record.get("levels") or {}).get(name) for name in self._statistics}
        channels, *size = self._shapes.get("", (0,)) or (0,)
        pictures = channels == 3 and len(size) == 2 and "" in self._statistics  # noqa: PLR2004
        pictures = pictures and self._levels[""] in (None, "bytes")
        self._size = (size[0], size[1]) if pictures else None
        if pictures:
            self.takes = f"a path, a folder, a PIL image, or {self.takes}"

    @property
    def form(self) -> str:
        """Tensors of the shapes of training."""
        return f"{self.modality} {self._shapes}"

    def spread(self, given: object) -> tuple[list[Any], bool]:
        """Tell one sample from several by the number of dimensions in training."""
        if isinstance(given, list | tuple):
            return [*given], False
        if self._size is not None and isinstance(given, str | Path | Image.Image):
            found = files_in(given)
            return ([given], True) if found is None else (found, False)
        parts = self._parts(given)
        if self._shapes and parts.keys() != self._shapes.keys():
            names = " and ".join(map(repr, self._shapes))
            raise ValueError(f"The model reads {names}, got {' and '.join(map(repr, parts))}.")
        single = bool(self._shapes) and all(
            part.ndim == len(self._shapes[name]) for name, part in parts.items()
        )
        counts = {1 if single else len(part) if part.ndim else 0 for part in parts.values()}
        if len(counts) != 1 or 0 in counts:
            raise ValueError(f"The parts of the input have {sorted(counts)} samples.")
        rows = [
            {name: part if single else part[i] for name, part in parts.items()}
            for i in range(counts.pop())
        ]
        return [row if isinstance(given, Mapping) else row[""] for row in rows], single

    def read(self, sample: object) -> Any:  # noqa: ANN401
        """Check a sample's shape, and normalise what was bytes in training."""
        if self._size is not None and isinstance(sample, str | Path | Image.Image):
            picture = isinstance(sample, Image.Image)
            read = pixels_of(sample, self._size) if picture else decoded(sample, self._size)  # type: ignore[arg-type]  # one or the other
            sample = torch.from_numpy(np.array(read)).permute(2, 0, 1)
        found = {}
        for name, part in self._parts(sample).items():
            wanted = self._shapes.get(name)
            if wanted is not None and tuple(part.shape) != wanted:
                raise ValueError(
                    f"a sample{f' of {name!r}' if name else ''} has the shape {tuple(part.shape)}; "
                    f"the model was trained on {wanted}"
                )
            self._check_kind(name, part)
            value = part if not part.is_floating_point() else part.float()
            if name in self._statistics:
                mean, std = (v.view(-1, *[1] * (part.ndim - 1)) for v in self._statistics[name])
                value = (part.float() - mean) / std
            found[name] = value
        return found if isinstance(sample, Mapping) else found[""]

    def _check_kind(self, name: str, part: Tensor) -> None:
        """Refuse other numbers where the network was trained on bytes, and bytes elsewhere."""
        what = f"a sample{f' of {name!r}' if name else ''}"
        if name not in self._statistics:
            if part.dtype == torch.uint8 and self._shapes.get(name):
                raise ValueError(f"{what} holds bytes; the model was trained on other numbers")
        elif (levels := self._levels[name]) not in (None, "bytes"):
            if str(part.dtype) != f"torch.{levels}":
                raise ValueError(f"{what} holds {part.dtype}; the model was trained on {levels}")
        elif part.dtype != torch.uint8 and part.numel():
            low, high = float(part.min()), float(part.max())
            if not (low >= 0 and high <= _MOST and bool((part == part.trunc()).all())):
                raise ValueError(
                    f"{what} has values from {low:g} to {high:g}; the model was trained on bytes, "
                    f"whole numbers from 0 to {_MOST}"
                )

    def _parts(self, given: object) -> dict[str, Tensor]:
        parts = given if isinstance(given, Mapping) and given else {"": given}
        return {str(name): self._tensor(part) for name, part in parts.items()}

    def _tensor(self, value: object) -> Tensor:
        if not isinstance(value, Tensor | np.ndarray) and not self._shapes:
            raise ValueError(
                "the checkpoint does not record how inputs were read (tl 0.1.0 wrote it, or its "
                "data module has no `describe()`): give tensors (N, ...) as the network took them "
                "in training, or name a folder to `tl predict CHECKPOINT FOLDER`, which reads the "
                "training data"
            )
        if not isinstance(value, Tensor | np.ndarray):
            raise ValueError(  # noqa: TRY004 - as every other input that is wrong
                f"{type(value).__name__} is not an input of this model; expected {self.takes}"
            )
        return torch.as_tensor(value).detach().cpu()

    def join(self, samples: Sequence[Any]) -> Inputs:
        """Stack the samples."""
        if isinstance(samples[0], Mapping):
            return {name: torch.stack([each[name] for each in samples]) for name in samples[0]}
        return torch.stack(list(samples))
