"""Samples in memory: arrays and files as checked tensors, divided into batches."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tl.batch import Inputs, on_each, shapes_of, size_of
from tl.data.errors import DataError
from tl.data.loaders import mixed_order
from tl.data.shifts.shift import Shift
from tl.reading import check_regular
from tl.tasks import Task

Layout = dict[str, tuple[tuple[int, ...], str]]  # shape, and type of levels or ""
_IMAGES, _COLOURS = 4, 3  # dimensions and channels of images
_CHANNELS = 2  # dimensions of inputs with channels, at least
# integers of other types, int32 and int64, may be indices of an embedding
_LEVELS = {torch.uint8: "bytes"} | {
    kind: str(kind).removeprefix("torch.")
    for kind in (torch.int8, torch.uint16, torch.int16, torch.uint32)
}


class TensorSet(Dataset[Any]):
    """Samples in memory, read in batches.

    Args:
        inputs: A tensor or a dict of tensors.
        targets: A tensor, a dict of tensors, or ``None``.
        rows: Rows of the samples in this set ``(M,)``.
        clean: The inputs before a shift; ``None`` without one.
    """

    def __init__(
        self, inputs: Inputs, targets: Inputs | None, rows: Tensor, clean: Inputs | None = None
    ) -> None:
        self.inputs = inputs
        self.targets = targets
        self.rows = rows
        self._clean = clean
        self._digest: bytes | None = None

    @classmethod
    def read(cls, inputs: Any, targets: Any, tasks: Sequence[Task], prefix: str) -> TensorSet:  # noqa: ANN401
        """Read arrays or files, and check them.

        Raises:
            DataError: If lengths differ, or a target is missing or does not fit its task.
        """
        found, count = _tensors(inputs, f"{prefix}inputs"), 0
        try:
            count = size_of(found)
        except ValueError as error:
            raise DataError(f"`{prefix}inputs`: {error}") from None
        given = None if targets is None else _tensors(targets, f"{prefix}targets")
        if given is not None:
            each = given if isinstance(given, Mapping) else {"": given}
            for name, target in each.items():
                if len(target) != count:
                    raise DataError(
                        f"`{prefix}inputs` have {count} samples, `{prefix}targets` "
                        f"{f'{name!r} ' if name else ''}{len(target)}."
                    )
            _check_targets(given, tasks, f"{prefix}targets")
        return cls(found, given, torch.arange(count))

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.rows)

    def __getitem__(self, index: Tensor) -> tuple[Inputs, Any]:
        """Return a batch by positions ``(B,)``; without targets, it holds the positions instead."""
        rows = self.rows[index]
        inputs = on_each(lambda part: part[rows], self.inputs)
        if self.targets is None:
            return inputs, rows
        return inputs, on_each(lambda part: part[rows], self.targets)

    def labelled(self, task: Task) -> int:
        """Return how many samples have a target of a task."""
        if self.targets is None:
            return 0
        given = self.targets
        target = given[str(task.target)] if isinstance(given, Mapping) else given
        return int(task.labelled(task.truth(task.settle(target[self.rows]))))

    def mixed(self) -> Tensor:
        """Return an order ``(M,)`` whose every prefix is a fair sample of the whole."""
        parts = self.targets.values() if isinstance(self.targets, Mapping) else [self.targets]
        return mixed_order((part[self.rows] for part in parts if part is not None), len(self))

    def subset(self, rows: Tensor) -> TensorSet:
        """Return the samples of some rows ``(M,)``."""
        return TensorSet(self.inputs, self.targets, rows, self._clean)

    def images(self) -> list[str]:
        """Return the names of the inputs that are images, bytes of three channels."""
        parts = self.inputs if isinstance(self.inputs, Mapping) else {"": self.inputs}
        return [
            name
            for name, part in parts.items()
            if part.dtype is torch.uint8 and part.ndim == _IMAGES and part.shape[1] == _COLOURS
        ]

    def shifted(self, shift: Shift, split: str) -> TensorSet:
        """Return the same samples with shifted images.

        Args:
            shift: The shift.
            split: Name of the split, part of the random numbers' seeds.
        """
        clean = self.inputs if self._clean is None else self._clean

        def shown(part: Tensor) -> Tensor:
            moved = shift(part.permute(0, 2, 3, 1), range(len(part)), split)
            return moved.permute(0, 3, 1, 2).contiguous()

        names = self.images()
        inputs = (
            {name: shown(part) if name in names else part for name, part in clean.items()}
            if isinstance(clean, Mapping)
            else shown(clean)
        )
        return TensorSet(inputs, self.targets, self.rows, clean)

    def unshifted(self) -> TensorSet:
        """Return the same samples with images as they were before a shift."""
        if self._clean is None:
            return self
        return TensorSet(self._clean, self.targets, self.rows)

    def shapes(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Return the shape of each part of a sample, by name."""
        return shapes_of(self.inputs)

    def layout(self) -> Layout:
        """Return by name the shape of a sample, and the type of levels, which are standardised."""
        parts = self.inputs if isinstance(self.inputs, Mapping) else {"": self.inputs}
        return {
            name: (shape, _LEVELS.get(parts[name].dtype, "") if shape else "")
            for name, shape in self.shapes()
        }

    def statistics(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return mean and standard deviation per channel of the parts that are levels."""
        parts = self.inputs if isinstance(self.inputs, Mapping) else {"": self.inputs}
        found = {}
        for name in [name for name, (_, levels) in self.layout().items() if levels]:
            part = parts[name]
            channels = part[self.rows].double().transpose(0, 1).flatten(1)
            std = channels.std(1, correction=0)
            found[name] = (channels.mean(1).float(), std.masked_fill(std == 0, 1.0).float())
        return found

    def means(self, without: Container[str]) -> dict[str, Tensor]:
        """Return the mean of each channel by part ``(C,)``; 0 for the parts named in `without`."""
        parts = self.inputs if isinstance(self.inputs, Mapping) else {"": self.inputs}
        return {
            name: torch.zeros(part.shape[1])
            if name in without
            else part[self.rows].double().transpose(0, 1).flatten(1).mean(1).float()
            for name, part in parts.items()
            if part.ndim >= _CHANNELS
        }

    def digest(self) -> bytes:
        """Return a hash of the samples without a shift and of their order, computed once."""
        if self._digest is not None:
            return self._digest
        digest = hashlib.sha256()
        for group in (self.unshifted().inputs, self.targets):
            parts = group if isinstance(group, Mapping) else {"": group}
            for name, part in sorted(parts.items()):
                if part is not None:
                    digest.update(f"{name} {part.dtype} {tuple(part.shape)}".encode())
                    digest.update(np.ascontiguousarray(part[self.rows].numpy()).data)
        self._digest = digest.digest()
        return self._digest


def said_layout(layout: Layout) -> str:
    """Format a layout for a message."""
    return ", ".join(
        f"{name} {levels or 'numbers'} of shape {shape}".strip()
        for name, (shape, levels) in layout.items()
    )


def _tensors(given: Any, what: str) -> Inputs:  # noqa: ANN401 - see TensorDataModule
    if isinstance(given, str | Path):
        given = _read(Path(given).expanduser(), what)
    if isinstance(given, Mapping):
        if not given:
            raise DataError(f"`{what}` is an empty dict.")
        return {str(name): _tensor(part, f"{what}[{name!r}]") for name, part in given.items()}
    return _tensor(given, what)


def _tensor(given: Any, what: str) -> Tensor:  # noqa: ANN401 - see TensorDataModule
    if isinstance(given, str | Path):
        given = _read(Path(given).expanduser(), what)
    try:
        found = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"`{what}` is a {type(given).__name__}, of which no tensor can be made: {error}"
        ) from None
    if found.ndim == 0 or not len(found):
        raise DataError(f"`{what}` holds no samples.")
    if found.is_complex():
        raise DataError(
            f"`{what}` holds complex numbers; give real and imaginary parts, as channels of inputs "
            "such as `torch.view_as_real` makes them."
        )
    return found.float() if found.is_floating_point() else found


def _read(path: Path, what: str) -> Any:  # noqa: ANN401 - an array or a dict of tensors
    try:
        check_regular(path)
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise DataError(f"`{what}`: no such file: {path}.") from None
    except Exception as error:  # noqa: BLE001 - a damaged file raises whatever a reader trips on
        raise DataError(f"`{what}`: {path} cannot be read: {error}") from None
    raise DataError(f"`{what}`: {path} must be a .npy or .safetensors file.")


def _check_targets(targets: Inputs, tasks: Sequence[Task], what: str) -> None:
    for task in tasks:
        given = targets
        if isinstance(targets, Mapping):
            if task.target not in targets:
                raise DataError(
                    f"Task {task.name!r} reads the target {task.target!r}, `{what}` has "
                    f"{', '.join(targets)}."
                )
            given = targets[str(task.target)]
        try:
            task.check(given)
        except ValueError as error:
            raise DataError(f"`{what}`: {error}") from None
