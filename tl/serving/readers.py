"""From what a user has - files, images, arrays, texts - to the inputs that a network trained on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tl.batch import Inputs
from tl.data.images.augment import Normalisation
from tl.data.images.decoding import pixels_of
from tl.data.text.known import TextTrainedOn, read_text_record
from tl.data.text.table import read_table
from tl.data.trained_on import TrainedOn, read_record
from tl.serving.pictures import as_picture, decoded, files_in

_MOST = 255  # of a byte


class Reader(ABC):
    """Reads samples as a source was read in training.

    Attributes:
        takes: What :meth:`read` takes, in words.
        modality: ``images``, ``texts`` or ``tensors``.
    """

    takes: str
    modality: str

    @property
    def way(self) -> str:
        """What readers have in common that read alike; no two do by default."""
        return str(id(self))

    @property
    def form(self) -> str:
        """What readers have in common that take the same samples."""
        return self.modality

    @abstractmethod
    def spread(self, given: object) -> tuple[list[Any], bool]:
        """Return the samples that something holds, and whether it is a single one."""

    @abstractmethod
    def read(self, sample: object) -> Any:  # noqa: ANN401 - what `join` takes
        """Read one sample.

        Raises:
            ValueError: If it cannot be read.
        """

    @abstractmethod
    def join(self, samples: Sequence[Any]) -> Inputs:
        """Return the inputs of several samples that were read."""


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
        """Size and normalisation."""
        return f"{self.size} {self._known.mean.tolist()} {self._known.std.tolist()}"

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
            return decoded(sample, self.size)
        if isinstance(sample, Tensor):
            if sample.ndim != 3 or sample.shape[0] not in (1, 3):  # noqa: PLR2004 - an image
                raise ValueError(
                    f"a tensor of shape {tuple(sample.shape)} is not an image; expected (3, H, W)"
                )
            sample = sample.detach().cpu().permute(1, 2, 0).numpy()
        if isinstance(sample, np.ndarray):
            sample = as_picture(sample)
        if not isinstance(sample, Image.Image):
            raise ValueError(  # noqa: TRY004 - as every other input that is wrong
                f"{type(sample).__name__} is not an image; expected {self.takes}"
            )
        return pixels_of(sample, self.size)

    def join(self, samples: Sequence[Any]) -> Inputs:
        """Return normalised images ``(N, 3, H, W)``."""
        return self._normalise(torch.from_numpy(np.stack([np.array(x) for x in samples])))


class TextReader(Reader):
    """Reads texts, and pairs of them as tuples, by the tokenizer of training.

    Args:
        known: How the source was read in training.
        columns: The columns of its tables that held ``text`` and ``pair``.
        encoding: Encoding of its files.
    """

    takes = "a text, a pair of texts as a tuple, a list of these, or a file of texts as a Path"
    modality = "texts"

    def __init__(
        self, known: TextTrainedOn, columns: Mapping[str, str | None], encoding: str = "utf-8"
    ) -> None:
        self._text, self._pair = columns.get("text") or "text", columns.get("pair")
        self._encoding = encoding
        read = (known.tokenizer.hash, known.max_length, self._text, self._pair, encoding)
        self._way = str(read)
        self._tokenizer = known.tokenizer
        self._backend = known.tokenizer.backend()
        self._backend.enable_truncation(known.max_length)

    @property
    def way(self) -> str:
        """Tokenizer, length, and columns and encoding of a table."""
        return self._way

    def spread(self, given: object) -> tuple[list[Any], bool]:
        """Tell one text from several; a path is a file of texts, as training reads them."""
        if isinstance(given, list):
            return [sample for each in given for sample in self._texts(each)], False
        return self._texts(given), not isinstance(given, Path)

    def _texts(self, given: object) -> list[Any]:
        if not isinstance(given, Path):
            return [given]
        table = read_table(given, self._encoding, self._text)
        texts = table.column(self._text, "text")
        if self._pair is None:
            return texts
        return [*zip(texts, table.column(self._pair, "pair"), strict=True)]

    def read(self, sample: object) -> Any:  # noqa: ANN401
        """Cut a text into tokens; a text longer than in training loses its end."""
        texts: tuple[Any, ...] = (sample,)
        if isinstance(sample, tuple) and len(sample) == 2:  # noqa: PLR2004 - a pair
            texts = sample
        if others := [text for text in texts if not isinstance(text, str)]:
            raise ValueError(f"{type(others[0]).__name__} is not a text; expected {self.takes}")
        if not all(text.strip() for text in texts):
            raise ValueError("the text is empty")
        return self._backend.encode(*texts)

    def join(self, samples: Sequence[Any]) -> Inputs:
        """Return token numbers and attention mask ``(N, L)`` int64, padded to the longest."""
        longest = max(len(each.ids) for each in samples)
        ids = torch.full((len(samples), longest), self._tokenizer.pad_id)
        mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, each in enumerate(samples):
            ids[row, : len(each.ids)] = torch.tensor(each.ids)
            types[row, : len(each.ids)] = torch.tensor(each.type_ids)
            mask[row, : len(each.ids)] = 1
        found = {"input_ids": ids, "attention_mask": mask}
        return {**found, "token_type_ids": types} if types.any() else found


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
        self._statistics = {
            str(name): tuple(torch.tensor(value) for value in both)
            for name, both in (record.get("statistics") or {}).items()
        }
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


def reader_of(record: Mapping[str, Any]) -> Reader:
    """Return what reads a source's samples, from its description in a checkpoint.

    Args:
        record: The description; empty for data that described nothing.

    Raises:
        DataError: If the tokenizer in it is damaged.
    """
    if (text := read_text_record(record)) is not None:
        return TextReader(text, record.get("columns") or {}, record.get("encoding") or "utf-8")
    if (images := read_record(record)) is not None:
        return ImageReader(images)
    return TensorReader(record)
