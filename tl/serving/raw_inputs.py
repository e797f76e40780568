"""What a network's sources are before normalisation: the raw tensors that a program takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tl.batch import Inputs
from tl.data.images.decoding import sides
from tl.data.text.known import read_text_record
from tl.data.trained_on import read_record

_BYTES = 255


@dataclass(frozen=True)
class RawInput:
    """One tensor that a program takes.

    Args:
        name: Its name; ``inputs`` where the network takes one without a name.
        dtype: ``uint8``, ``float32`` or ``int64``.
        shape: Of a sample; ``None`` for a free length.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class RawInputs:
    """The tensors of a source, and how they are normalised.

    Args:
        kind: ``images``, ``texts`` or ``tensors``.
        parts: The tensors.
        statistics: Mean and standard deviation per channel, by name.
        single: Whether the network takes the only tensor itself, not a dict of it.
        longest: Largest free length; ``None`` without one.
        pixel_range: What becomes black and white of images of more than 8 bits per channel.
    """

    kind: str
    parts: tuple[RawInput, ...]
    statistics: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    single: bool = True
    longest: int | None = None
    pixel_range: tuple[float, float] | None = None

    @property
    def layout(self) -> tuple[Any, ...]:
        """What two sources have in common that one tensor can serve."""
        return self.kind, self.parts, self.single, self.longest, self.pixel_range

    @property
    def said(self) -> str:
        """What it reads, in words."""
        if self.longest is not None:
            return f"texts of up to {self.longest} tokens"
        deep = "" if self.pixel_range is None else f" of the range {list(self.pixel_range)}"
        return ", ".join(f"{part.name} {part.shape}" for part in self.parts) + deep

    def record(self) -> list[dict[str, Any]]:
        """Return the tensors in plain types."""
        return [{"name": p.name, "dtype": p.dtype, "shape": list(p.shape)} for p in self.parts]

    def example(self, count: int, seed: int = 0) -> Inputs:
        """Return random inputs ``(count, ...)``; of texts, use the tokenizer instead.

        Args:
            count: Number of samples.
            seed: Seed of the numbers.
        """
        generator = torch.Generator().manual_seed(seed)
        found = {}
        for part in self.parts:
            shape = (count, *(side or 1 for side in part.shape))
            if part.dtype == "uint8":
                drawn = torch.randint(0, _BYTES + 1, shape, generator=generator)
                found[part.name] = drawn.to(torch.uint8)
            else:
                found[part.name] = torch.randn(shape, generator=generator)
        return next(iter(found.values())) if self.single else found

    def normaliser(self) -> nn.Module:
        """Return a module from the raw inputs to those of the network."""
        if self.kind == "images":
            return NormalisedPixels(*self.statistics["pixels"])
        return NormalisedParts({} if self.kind == "texts" else self.statistics)


class NormalisedPixels(nn.Module):
    """From bytes ``(N, H, W, 3)`` to images ``(N, 3, H, W)``, as training normalised them.

    Args:
        mean: ``(3,)`` in pixel values.
        std: ``(3,)`` in pixel values.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        scale = 1.0 / std
        self.register_buffer("scale", scale)
        self.register_buffer("shift", -mean * scale)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise."""
        return torch.addcmul(self.shift, pixels.float(), self.scale).permute(0, 3, 1, 2)


class NormalisedParts(nn.Module):
    """Normalise the tensors that were bytes in training; leave the others as they are.

    Args:
        statistics: Mean and standard deviation per channel, by name.
    """

    def __init__(self, statistics: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.names = tuple(statistics)
        for number, both in enumerate(statistics.values()):
            self.register_buffer(f"mean{number}", both[0])
            self.register_buffer(f"std{number}", both[1])

    def forward(self, inputs: Inputs) -> Inputs:
        """Normalise ``(N, C, ...)``."""
        if isinstance(inputs, Mapping):
            return {name: self._part(name, part) for name, part in inputs.items()}
        return self._part(next(iter(self.names), ""), inputs)

    def _part(self, name: str, part: Tensor) -> Tensor:
        if name not in self.names:
            return part
        number = self.names.index(name)
        mean, std = getattr(self, f"mean{number}"), getattr(self, f"std{number}")
        ones = [1] * (part.ndim - 2)
        normal: Tensor = (part.float() - mean.view(-1, *ones)) / std.view(-1, *ones)
        return normal


def raw_inputs(record: Mapping[str, Any], shape: Sequence[int] | None = None) -> RawInputs:
    """Return the raw tensors of a source.

    Args:
        record: Its description in a checkpoint; empty for data that described nothing.
        shape: Shape of a sample of such data.

    Raises:
        ValueError: If nothing is known about them.
    """
    if (texts := read_text_record(record)) is not None:
        both = tuple(RawInput(name, "int64", (None,)) for name in ("input_ids", "attention_mask"))
        return RawInputs("texts", both, single=False, longest=texts.max_length)
    if (images := read_record(record)) is not None:
        part = RawInput("pixels", "uint8", (*sides(images.image_size), 3))
        scale = {"pixels": (images.mean, images.std)}
        return RawInputs("images", (part,), scale, pixel_range=images.pixel_range)
    shapes = (record.get("shapes") or {}).get("train") or ({"": shape} if shape else {})
    if not shapes:
        raise ValueError(
            "the checkpoint does not describe its inputs: its data module has no `describe()`, or "
            "tl 0.1.0 wrote it; give the shape of a sample, such as --shape 3 32 32"
        )
    statistics = {
        str(name) or "inputs": (torch.tensor(mean), torch.tensor(std))
        for name, (mean, std) in (record.get("statistics") or {}).items()
    }
    parts = tuple(
        RawInput(n or "inputs", "uint8" if (n or "inputs") in statistics else "float32", tuple(s))
        for n, s in shapes.items()
    )
    return RawInputs("tensors", parts, statistics, single=[*shapes] == [""])


def tokenizer_file(record: Mapping[str, Any]) -> bytes:
    """Return the tokenizer of a source of texts as ``tokenizer.json``.

    Args:
        record: The description of the source in a checkpoint.

    Raises:
        ValueError: If it is not a source of texts.
    """
    texts = read_text_record(record)
    if texts is None:
        raise ValueError("The source has no tokenizer, as it is not one of texts.")
    backend = texts.tokenizer.backend()
    backend.enable_truncation(texts.max_length)
    return str(backend.to_str(pretty=False)).encode()
