"""Evaluation of a source as a checkpoint was trained: classes, size, statistics and split."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from tl.data.errors import DataError, listed
from tl.data.image_loaders import ImageLoaders
from tl.data.images.decoding import Size, sides
from tl.data.images.pipeline import Pipeline
from tl.data.images.resident import ImageDataset
from tl.data.settings import DomainOptions
from tl.data.split import Split
from tl.data.trained_on import TrainedOn, read_record, record_of, same_data, same_names


class TrainedSource(DomainOptions, ImageLoaders, ABC):
    """The part of a source of images that keeps to a checkpoint.

    Attributes:
        image_size: Pixels of both sides, or height and width.
        statistics: Mean and standard deviation per channel, in pixel values.
        trained_on: The record of the checkpoint that is evaluated.
    """

    image_size: Size
    statistics: tuple[Tensor, Tensor] | None
    trained_on: TrainedOn | None
    _adopted: Mapping[str, Any]
    _divided: tuple[Tensor, ImageDataset] | None  # rows that validate, and their images

    @abstractmethod
    def target_classes(self) -> dict[str, tuple[str, ...]]:
        """Return the class names by target (``fine``, ``coarse``), known before loading.

        A target without classes, such as a number, has no names: ``()``.
        """

    def official_splits(self) -> tuple[Split, ...]:
        """Return the splits of the source; without ``val``, a part of ``train`` validates."""
        return ("train", "test")

    def kind(self) -> str:
        """Return where the pixels come from: ``real`` or ``generated``."""
        return "real"

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return a description of the loaded data in plain types."""

    @abstractmethod
    def _read(self, split: Split) -> ImageDataset:
        """Load a split, check its targets, and shift its images."""

    @property
    def withholds(self) -> bool:
        """Whether training sees no labels; in an evaluation, whether it saw none."""
        return (self.trained_on.labels if self.trained_on else self.labels) == "none"

    @abstractmethod
    def _divide(
        self, whole: ImageDataset, val_size: float, label_fraction: float, seed: int
    ) -> dict[str, ImageDataset]:
        """Split the training images into ``train`` and ``val``."""

    def adopt(self, record: Mapping[str, Any], sources: int | None = None) -> bool:
        """Evaluate as a checkpoint was trained: by its classes, image size, statistics and split.

        Labels follow the checkpoint's class names, whatever the order of the folders now. The
        images that it held out validate. The next `setup` for ``fit`` ends this.

        Args:
            record: The result of `describe` when the checkpoint was written, by source or of one.
            sources: Number of sources, if this is one of several.

        Returns:
            Whether this changes anything: `setup` has to load again.

        Raises:
            DataError: If the checkpoint has other sources, targets or classes.
        """
        part = record_of(record, self.data_name, sources or 1)
        if changed := self.trained_on is not None:
            if part == self._adopted:
                return False
            self._forget()  # of another checkpoint
        known = read_record(part)
        if known is None:
            rank_zero_info(
                f"tl: the checkpoint does not hold the classes and the normalisation of "
                f"{self.data_name}; using those of the training images found here."
            )
            return changed
        same = "train" in self.splits and self.fingerprint == known.fingerprint
        if same and self._normalises_as(known):
            for target, names in self.target_classes().items():
                same_names(known.classes.get(target, ()), names, "classes", self.data_name)
            return False  # the very data that were trained on
        self._forget()
        own = self._targets_asked_for()
        if own is not None and set(own) != set(known.classes):
            raise DataError(
                f"The checkpoint was trained on the targets {listed(sorted(known.classes))}, "
                f"{self.data_name} has {listed(sorted(own))}; choose the same `targets`."
            )
        self._take_size(known.image_size)
        self._say_other_split(known)
        self.trained_on, self._adopted = known, dict(part)
        self._reload()
        return True

    def _normalises_as(self, known: TrainedOn) -> bool:
        """Tell whether the statistics are a checkpoint's; followed sources may have changed."""
        pairs = zip(self.statistics or (), (known.mean, known.std), strict=False)
        return all(torch.allclose(here, there, rtol=1e-4) for here, there in pairs)

    def _forget(self) -> None:
        self.trained_on = None
        self._reload()

    def _reload(self) -> None:
        """Let the next `setup` load everything again."""
        self.splits.clear()
        self._divided = None
        self.__dict__.pop("fingerprint", None)
        self.statistics, self._pipeline = None, None
        if (known := self.trained_on) is not None:
            self.statistics = (known.mean, known.std)
            self._pipeline = self._new_pipeline(self.statistics)

    def _new_pipeline(self, statistics: tuple[Tensor, Tensor]) -> Pipeline:
        return Pipeline(
            self.data_name, self.settings, statistics, self.tasks, views=self.views_made
        )

    def _targets_asked_for(self) -> Iterable[str] | None:
        """Return the targets that the options select; ``None`` if only the data tell."""
        return None

    def _take_size(self, size: Size) -> None:
        """Use the size of a checkpoint's images, or refuse it."""
        if size != self.image_size:
            raise DataError(
                f"The checkpoint was trained on images of {_by(size)} pixels, "
                f"{self.data_name} has {_by(self.image_size)}."
            )

    def _say_other_split(self, known: TrainedOn) -> None:
        changed = [
            f"{name} {getattr(known, name)} there, {getattr(self.settings, name)} here"
            for name in ("seed", "val_size", "label_fraction")
            if getattr(known, name) != getattr(self.settings, name)
        ]
        here = self.shift.label if self.shift else "none"
        if (there := known.shift or "none") != here:
            rank_zero_info(
                f"tl: {self.data_name}: evaluating under another shift than in training: {there} "
                f"there, {here} here."
            )
        if changed:
            rank_zero_info(
                f"tl: {self.data_name}: using the checkpoint's split, not that of the settings: "
                f"{'; '.join(changed)}."
            )

    def _setup_evaluation(self, known: TrainedOn, stage: str) -> None:
        if stage == "predict" and self.settings.predict_folder:
            return
        for target, names in self.target_classes().items():
            same_names(known.classes.get(target, ()), names, "classes", self.data_name)
        if known.kind == "real" and self.kind() == "generated":
            raise self._not_real()
        if stage == "validate" and "val" not in self.splits:
            self.splits |= self._held_out(known)

    def _held_out(self, known: TrainedOn) -> dict[str, ImageDataset]:
        """Load the validation images of a checkpoint."""
        if known.val_folder is not None and "val" in self.official_splits():
            return {"val": self._read("val").only(self.target_classes())}
        found = self._trained_part(known)
        now = self._hash(found)
        if now != known.unshifted:
            raise DataError(
                f"{self.data_name}: the checkpoint was trained on {known.unshifted}, the "
                f"training images here are {now}: which of them it held out cannot be determined. "
                "Validate on the images that it was trained on, or use `test`."
            )
        return found

    def _trained_part(self, known: TrainedOn) -> dict[str, ImageDataset]:
        """Split the training images as in the training of a checkpoint."""
        val_size = 0.0 if known.val_folder is not None else known.val_size
        return self._divide(self._read("train"), val_size, known.label_fraction, known.seed)

    def _restore_train_split(self) -> None:
        if self.trained_on is not None:
            self.splits["train"] = self._trained_part(self.trained_on)["train"]

    def _not_real(self) -> DataError:
        return DataError(
            f"{self.data_name}: the model was trained on real images, and these are synthetic. "
            "Put the real ones below `root`, or let them be downloaded."
        )

    @cached_property
    def fingerprint(self) -> str:
        """Kind of the data and a hash of the training and validation images.

        Pixels, labels, split, label fraction and how two views are made change it; batch size,
        augmentation and the name of a folder do not. The images are hashed without their shift,
        whose name, severity and seed follow: ``real:0123456789abcdef~fog-3``.
        """
        if self.trained_on is not None and "train" not in self.splits:
            found = self.trained_on.unshifted
        else:
            found = self._hash(self.splits)
        return found if self.shift is None else f"{found}~{self.shift.label}"

    def _hash(self, splits: Mapping[str, ImageDataset]) -> str:
        digest = hashlib.sha256()
        for split in ("train", "val"):
            digest.update(splits[split].digest().encode())
        if self.views_made is not None:
            digest.update(repr(self.views_made).encode())
        return f"{self.kind()}:{digest.hexdigest()[:16]}"

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must match and an evaluation must know."""
        seeded_by = self._ready().name
        return {"fingerprint": self.fingerprint, "record": self.describe(), "seeded_by": seeded_by}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to resume training on other data; evaluate as the checkpoint was trained.

        Data in a renamed folder are augmented as under the old name. A model of real images is not
        evaluated on synthetic ones, nor with their class names.

        Raises:
            DataError: If the fingerprint, the classes or the kind differ from the checkpoint's.
        """
        record = state_dict.get("record") or {}
        stage = self.trainer.state.fn if self.trainer is not None else None
        fits = stage in (None, TrainerFn.FITTING)
        if stage is not None and not fits and record:
            if self.adopt(record):
                self.setup(stage.value)
            return
        if self._unread is not None:
            raise self._unread
        then, now = str(state_dict.get("fingerprint")), self.fingerprint
        if then.startswith("real:") and now.startswith("generated:"):
            raise self._not_real()
        if self.trainer is None or not fits:
            return
        for target, names in (record.get("class_names") or {}).items():
            same_names(names, self.target_classes().get(target, ()), "classes", self.data_name)
        same_data(self.data_name, then, now, "data, label fraction, validation size and seed")
        known = read_record(record)
        if known is not None and not self._normalises_as(known):
            on_pixels = self._ready().on_pixels
            self.statistics = (known.mean, known.std)
            self._pipeline = self._new_pipeline(self.statistics)
            self._pipeline.on_pixels = on_pixels
        self._ready().name = str(state_dict.get("seeded_by", self.data_name))


def _by(size: Size) -> str:
    return "{}x{}".format(*sides(size))
