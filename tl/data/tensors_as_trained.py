"""Arrays as a checkpoint knows them: what was loaded, and under which shift."""

from __future__ import annotations

import hashlib
from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar

from lightning.pytorch.utilities import rank_zero_info

from tl.data.errors import DataError
from tl.data.run_loaders import RunLoaders
from tl.data.shifts.shift import Shift
from tl.data.tensor_set import Layout, TensorSet, said_layout
from tl.data.tensor_statistics import Statistics, recorded, statistics_of


class TrainedTensors(RunLoaders, ABC):
    """The part of a source of arrays that describes them and evaluates as a checkpoint trained.

    Attributes:
        described_as: Name in descriptions.
        splits: The samples by split.
        batch_size: Samples per process and step.
    """

    described_as: ClassVar[str] = "tensors"
    splits: dict[str, TensorSet]
    batch_size: int
    val_size: float
    seed: int
    shift: Shift | None
    _statistics: Statistics | None  # of the training samples, as shifted
    _layout: Layout | None  # of the training samples
    _split_by: tuple[int, float] | None
    _own: tuple[int, float] | None  # seed and share while a checkpoint decides

    def _forget(self) -> None:
        """Restore the options that a checkpoint replaced, unless they were set since."""
        if self._own is None or self._split_by is None:
            return
        (seed, share), adopted = self._own, self._split_by
        self.seed = seed if self.seed == adopted[0] else self.seed
        self.val_size = share if self.val_size == adopted[1] else self.val_size
        self._own = self._split_by = None
        self._clear()

    def _clear(self) -> None:
        """Let the next `setup` read and split again."""
        self.splits.clear()
        self._statistics = self._layout = None

    def check_shift(self, shift: Shift, data: TensorSet | None = None) -> None:
        """Refuse a shift of inputs other than images, and of pixels that targets lie on.

        Args:
            shift: The shift.
            data: Samples to shift in place of those that are loaded, if any.

        Raises:
            DataError: If the inputs are not images, or the targets would stay behind.
        """
        if data is None:
            data = self.splits.get("test", self.splits.get("train"))
        if data is not None and not data.images():
            raise DataError(
                f"The shift {shift.name!r} is for images, uint8 (N, 3, H, W); the inputs are "
                f"{said_layout(data.layout())}."
            )
        for task in self.tasks:
            if shift.moves_pixels and task.on_pixels:
                raise DataError(
                    f"The shift {shift.name!r} moves pixels, and the targets of task "
                    f"{task.name!r} lie on them and would stay; choose another."
                )

    def show_shifted(self, shift: Shift | None) -> None:
        """Shift the test images that are loaded, without reading them again.

        For a moment: the option `shift`, fingerprint and description stay.

        Args:
            shift: In place of the one in force; ``None`` shows them as they are.

        Raises:
            DataError: If the inputs are not images, or it moves pixels that targets lie on.
        """
        if shift is not None:
            self.check_shift(shift)
        clean = self.splits["test"].unshifted()
        self.splits["test"] = clean if shift is None else clean.shifted(shift, "test")

    # What was loaded

    @property
    def fingerprint(self) -> str:
        """A hash of the samples that train and validate, without their shift, which follows."""
        digest = hashlib.sha256()
        for split in ("train", "val"):
            digest.update(self.splits[split].digest())
        found = f"real:{digest.hexdigest()[:16]}"
        return found if self.shift is None else f"{found}~{self.shift.label}"

    def describe(self) -> dict[str, Any]:
        """Return a description of the loaded data in plain types."""
        return {
            "name": self.described_as,
            "kind": "real",
            "fingerprint": self.fingerprint if "train" in self.splits else None,
            "samples": {split: len(data) for split, data in self.splits.items()},
            "shapes": {
                split: {name: list(shape) for name, shape in data.shapes()}
                for split, data in self.splits.items()
            },
            "levels": {name: levels for name, (_, levels) in (self._layout or {}).items()},
            "statistics": recorded(self._statistics or {}),
            "val_size": self.val_size,
            "seed": self.seed,
            **({} if self.shift is None else {"shift": self.shift.record()}),
        }

    def adopt(self, record: Mapping[str, Any]) -> bool:
        """Evaluate as a checkpoint was trained: by its statistics and its split.

        The next `setup` for ``fit`` ends this.

        Args:
            record: The result of `describe` when the checkpoint was written.

        Returns:
            Whether `setup` has to load again.
        """
        if record.get("statistics") is None:
            return False
        there = Shift(**record["shift"]).label if record.get("shift") else "none"
        here = "none" if self.shift is None else self.shift.label
        if there != here:
            rank_zero_info(
                f"tl: evaluating under another shift than in training: {there} there, {here} here."
            )
        statistics = statistics_of(record)
        bytes_ = dict.fromkeys(statistics, "bytes")  # older checkpoints know no other levels
        levels = record.get("levels", bytes_)
        layout = {
            str(name): (tuple(shape), str(levels.get(name, "")))
            for name, shape in record["shapes"]["train"].items()
        }
        split_by = (int(record["seed"]), float(record["val_size"]))
        same = bool(self.splits) and (split_by, layout) == (self._split_by, self._layout)
        same = same and recorded(statistics) == recorded(self._statistics or {})
        if self._own is None:
            self._own = (self.seed, self.val_size)
        self.seed, self.val_size = self._split_by = split_by
        if same:  # what `show_shifted` made stays
            return False
        self._statistics, self._layout = statistics, layout
        self.splits.clear()
        return True
